/** Whose a row is. */
declare const isProject: unique symbol

/** A project's name. Nothing else is taken for one, so that a look at rows that forgets whose they are does not compile. */
export type Project = string & { readonly [isProject]: true }

export const defaultProject = 'default' as Project

export const projectPattern = /^[a-z0-9][a-z0-9_-]{0,62}$/

/** @returns undefined for what is no project's name */
export const readProject = (name: string): Project | undefined =>
  projectPattern.test(name) ? (name as Project) : undefined

/** For what the service does on its own account, and for a picture whose signed address says that it may be seen. */
export const everyProject = Symbol('every project')
export type Whose = Project | typeof everyProject

/** What a look at rows is narrowed by. */
export const ownedBy = (whose: Whose): { project?: Project } =>
  whose === everyProject ? {} : { project: whose }
