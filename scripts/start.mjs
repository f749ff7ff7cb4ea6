// `npm start`: brings the clone to the point where it runs, then serves in this very process, which gets npm's signals.
import { buildPages } from './build-pages.mjs'
import { generateDatabaseClient, installDependencies } from './setup.mjs'

installDependencies()
generateDatabaseClient()
buildPages()
process.argv.push('serve')
await import('../bin/atelier.mjs')
