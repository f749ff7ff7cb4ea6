import { mountPage } from '../shared/mount.tsx'
import { Playground } from './playground.tsx'

mountPage('Playground', <Playground />)
