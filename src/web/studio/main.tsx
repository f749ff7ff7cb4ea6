import './studio.css'
import { mountPage } from '../shared/mount.tsx'
import { Studio } from './studio.tsx'

mountPage('Studio', <Studio />)
