// `npm start`: brings the clone to the point where it runs, then serves in this very process, which gets npm's signals.
import { generateDatabaseClient, installDependencies } from './setup.mjs'

installDependencies()
generateDatabaseClient()
process.argv.push('serve')
await import('../bin/atelier.mjs')
