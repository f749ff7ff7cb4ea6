/** Where in the studio we are: the address's hash, so that a place can be kept, sent and gone back to. */
import { signal } from '@preact/signals'

export type Route =
  | { readonly view: 'jobs' | 'datasets' | 'deployments' | 'devices' }
  | { readonly view: 'new job'; readonly dataset: string | undefined }
  | { readonly view: 'job' | 'dataset'; readonly id: string }

export function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?')
  const [first, second] = path.split('/')
  switch (first) {
    case 'datasets':
      return second ? { view: 'dataset', id: second } : { view: 'datasets' }
    case 'deployments':
    case 'devices':
      return { view: first }
    case 'jobs':
      if (second === 'new')
        return { view: 'new job', dataset: new URLSearchParams(query).get('dataset') ?? undefined }
      return second ? { view: 'job', id: second } : { view: 'jobs' }
    case undefined:
    default:
      return { view: 'jobs' }
  }
}

export function hrefOf(route: Route): string {
  switch (route.view) {
    case 'new job':
      return route.dataset === undefined ? '#/jobs/new' : `#/jobs/new?dataset=${route.dataset}`
    case 'job':
      return `#/jobs/${route.id}`
    case 'dataset':
      return `#/datasets/${route.id}`
    case 'jobs':
    case 'datasets':
    case 'deployments':
    case 'devices':
      return `#/${route.view}`
  }
}

export const route = signal<Route>(parseRoute(location.hash))

addEventListener('hashchange', () => (route.value = parseRoute(location.hash)))

export function go(to: Route): void {
  location.hash = hrefOf(to)
}
