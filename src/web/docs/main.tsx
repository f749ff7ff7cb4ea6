import './docs.css'
import { mountAround } from '../shared/mount.tsx'
import { Search } from './search.tsx'

mountAround('Reference', { '#search': <Search /> })
