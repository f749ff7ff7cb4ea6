/** What the routes work with. */
import type { FastifyRequest } from 'fastify'
import type { Config } from '../../config.ts'
import type { GenerationService } from '../../generation/service.ts'
import type { Contract } from '../contract.ts'
import type { Lifecycle } from '../lifecycle.ts'

export interface RouteDependencies {
  readonly generation: GenerationService
  readonly config: Config
  readonly contract: Contract
  readonly lifecycle: Lifecycle
  readonly startedAt: Date
}

export const asUnixSeconds = (date: Date): number => Math.floor(date.getTime() / 1000)

/** @returns where the picture's bytes are: under the public address, else under the one that this client used */
export function imageUrl(
  request: FastifyRequest,
  { publicUrl }: Pick<Config, 'publicUrl'>,
  imageId: string,
): string {
  const base = publicUrl === '' ? `http://${request.host}` : publicUrl
  return `${base}/v1/images/${imageId}/content`
}
