import { defineConfig } from 'vitest/config'

const [notLong, ofPackages] = ['test/long/**', '**/node_modules/**']

/** What is kept and what becomes of it: the same on both databases. */
const ofBothDatabases = [
  'test/fine-tuning/service.test.ts',
  'test/generation/{events,queue,resources,service}.test.ts',
  'test/storage/queue.test.ts',
]

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 10_000 } },
    exclude: [notLong, ofPackages],
    globalSetup: 'test/postgres/global-setup.ts',
    projects: [
      {
        extends: true,
        test: { name: 'embedded', include: ['test/**/*.test.ts'], provide: { database: 'embedded' } },
      },
      {
        extends: true,
        test: { name: 'server', include: ofBothDatabases, provide: { database: 'server' } },
      },
    ],
  },
})
