import { mountPage } from '../shared/mount.tsx'
import { keepDraft } from './draft.ts'
import { Playground } from './playground.tsx'

keepDraft()
mountPage('Playground', <Playground />)
