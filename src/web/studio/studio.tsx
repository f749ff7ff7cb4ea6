/** The studio: pictures to learn from, what is learned from them, and what serves. */
import type { JSX } from 'preact'
import { Icon, type IconName } from '../shared/icons.tsx'
import { apiKey } from '../shared/session.ts'
import { useShortcuts } from '../shared/shortcuts.tsx'
import { lazy } from './lazy.tsx'
import { JobList } from './jobs/job-list.tsx'
import { go, hrefOf, route, type Route } from './route.ts'

const DatasetList = lazy(async () => (await import('./datasets/dataset-list.tsx')).DatasetList)
const DatasetView = lazy(async () => (await import('./datasets/dataset-view.tsx')).DatasetView)
const Wizard = lazy(async () => (await import('./jobs/wizard.tsx')).Wizard)
const JobView = lazy(async () => (await import('./jobs/job-view.tsx')).JobView)
const Devices = lazy(async () => (await import('./devices/devices.tsx')).Devices)
const Deployments = lazy(async () => (await import('./deployments.tsx')).Deployments)

interface Place {
  readonly name: string
  readonly icon: IconName
  readonly to: Route
  readonly views: readonly Route['view'][]
}

const places: readonly Place[] = [
  { name: 'Jobs', icon: 'chart', to: { view: 'jobs' }, views: ['jobs', 'job', 'new job'] },
  { name: 'Datasets', icon: 'images', to: { view: 'datasets' }, views: ['datasets', 'dataset'] },
  { name: 'Deployments', icon: 'rocket', to: { view: 'deployments' }, views: ['deployments'] },
  { name: 'Devices', icon: 'device', to: { view: 'devices' }, views: ['devices'] },
]

const shortcuts = [
  ...places.map(({ name, to }, index) => ({
    keys: String(index + 1),
    does: `Go to ${name.toLowerCase()}`,
    run: () => go(to),
  })),
  { keys: 'n', does: 'Begin a new job', run: () => go({ view: 'new job', dataset: undefined }) },
]

export function Studio(): JSX.Element {
  useShortcuts(shortcuts)
  const here = route.value
  return (
    <div class="studio">
      <nav class="studio__places" aria-label="Studio">
        {places.map(({ name, icon, to, views }) => (
          <a
            key={name}
            class="studio__place"
            href={hrefOf(to)}
            {...(views.includes(here.view) && { 'aria-current': 'page' })}
          >
            <Icon name={icon} />
            {name}
          </a>
        ))}
      </nav>
      {/* Another visitor begins anew. */}
      <div class="studio__view" key={apiKey.value}>
        {view(here)}
      </div>
    </div>
  )
}

function view(here: Route): JSX.Element {
  switch (here.view) {
    case 'jobs':
      return <JobList />
    case 'new job':
      return <Wizard key={here.dataset} dataset={here.dataset} />
    case 'job':
      return <JobView key={here.id} id={here.id} />
    case 'datasets':
      return <DatasetList />
    case 'dataset':
      return <DatasetView key={here.id} id={here.id} />
    case 'deployments':
      return <Deployments />
    case 'devices':
      return <Devices />
  }
}
