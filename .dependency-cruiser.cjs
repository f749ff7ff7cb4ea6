/** The import rules of ARCHITECTURE.md: who may know whom. */
const room = (name) => `^src/${name}/`
const only = (from, ...allowed) => ({
  name: `${from}-imports`,
  severity: 'error',
  comment: `src/${from} may import only itself${allowed.length ? ` and ${allowed.join(', ')}` : ''}`,
  from: { path: room(from) },
  to: {
    path: '^src/',
    pathNot: [room(from), ...allowed.map((a) => (a.endsWith('.ts') ? `^src/${a}$` : room(a)))],
  },
})

module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'no-orphans-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'only-session-imports-onnxruntime',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/engine/session\\.ts$' },
      to: { path: 'onnxruntime' },
    },
    {
      name: 'engine-through-its-front-door',
      severity: 'error',
      comment:
        'outside engine, only pool.ts (the devices), parity.ts, quantisation-report.ts and checkpoint-report.ts (the checks), and the memory plan are visible',
      from: { path: '^src/', pathNot: '^src/engine/' },
      to: {
        path: '^src/engine/',
        pathNot: '^src/engine/(pool|parity|protocol|quantisation-report|checkpoint-report|memory-plan)\\.ts$',
      },
    },
    {
      name: 'nobody-imports-http',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(http|commands)/' },
      to: { path: room('http') },
    },
    only('diffusion'),
    only('text'),
    only('weights'),
    only('outbound'),
    only('policy', 'outbound'),
    only('hub', 'weights'),
    only('graph'),
    only('models', 'graph', 'weights'),
    only('training', 'models', 'diffusion', 'text', 'graph', 'weights', 'byte-lru.ts'),
    only('engine', 'models', 'diffusion', 'text', 'weights', 'graph', 'training', 'config.ts', 'byte-lru.ts'),
    only('storage', 'config.ts'),
    only('access', 'storage', 'config.ts'),
    only('generation', 'access', 'engine', 'storage', 'webhooks', 'policy', 'diffusion', 'config.ts'),
    only('webhooks', 'access', 'outbound', 'storage'),
    only('datasets', 'access', 'storage', 'training', 'diffusion', 'config.ts'),
    only(
      'fine-tuning',
      'access',
      'engine',
      'storage',
      'datasets',
      'policy',
      'training',
      'diffusion',
      'config.ts',
    ),
    only('cluster', 'engine', 'storage', 'config.ts'),
    only('evaluation', 'engine', 'diffusion'),
    only('http', 'access', 'generation', 'datasets', 'fine-tuning', 'webhooks', 'policy', 'sdk', 'config.ts'),
    only('sdk'),
    {
      name: 'nothing-ships-with-recipes',
      severity: 'error',
      comment: 'recipes need packages that only a clone has',
      from: { path: '^src/' },
      to: { path: '^recipes/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: 'src/storage/client' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
}
