/** Who asks. All that is looked at or changed for a request is the caller's project's. */
import { defaultProject, type Project } from './project.ts'

export interface Caller {
  readonly project: Project
  /** Undefined where the service has no keys. */
  readonly key: CallingKey | undefined
}

export interface CallingKey {
  readonly id: string
  /** Generations that have not ended; undefined: any number. */
  readonly maxInFlight: number | undefined
  /** In a calendar month (UTC); undefined: any number. */
  readonly imagesPerMonth: number | undefined
  /** Where the ends of its generations are told, unless a request says otherwise. */
  readonly webhookUrl: string | undefined
}

/** Whoever calls a service that has no keys. */
export const keyless: Caller = { project: defaultProject, key: undefined }
