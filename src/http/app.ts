/** Builds the HTTP application out of its parts. It never listens: whoever calls it does, and closes it. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import { pino } from 'pino'
import type { AccessService } from '../access/service.ts'
import type { Config } from '../config.ts'
import type { DatasetService } from '../datasets/service.ts'
import type { FineTuningService } from '../fine-tuning/service.ts'
import type { GenerationService } from '../generation/service.ts'
import type { RequestTrace, Tracing } from '../tracing/tracing.ts'
import type { WebhookService } from '../webhooks/service.ts'
import { hangUpOnRest, hasBody, headTimeoutMs, inTime, patienceFor } from './arrival.ts'
import { createDoorkeeper } from './auth.ts'
import { answerClientError } from './client-error.ts'
import {
  archiveTypesOf,
  listOperations,
  methodsOf,
  operationOf,
  readContract,
  registerOperations,
  type ContractDocument,
} from './contract.ts'
import { ApiError, asApiError } from './errors.ts'
import { registerHeaders } from './headers.ts'
import { createLifecycle } from './lifecycle.ts'
import { createLinks } from './links.ts'
import { createMetrics } from './metrics.ts'
import { builtPages, registerPages } from './pages.ts'
import { registerRateLimits } from './rate-limits.ts'
import {
  getDatasetItem,
  getDatasetItemContent,
  listDatasetItems,
  updateDatasetItem,
} from './routes/dataset-items.ts'
import {
  createDataset,
  deleteDataset,
  getDataset,
  listDatasetProblems,
  listDatasets,
} from './routes/datasets.ts'
import type { RouteDependencies } from './routes/dependencies.ts'
import {
  deleteDeployment,
  deployFineTuningCheckpoint,
  getDeployment,
  listDeployments,
  rollbackModel,
  withdrawModel,
} from './routes/deployments.ts'
import {
  cancelFineTuningJob,
  createFineTuningJob,
  deleteFineTuningJob,
  getFineTuningJob,
  listFineTuningJobs,
  pauseFineTuningJob,
  resumeFineTuningJob,
} from './routes/fine-tuning-jobs.ts'
import {
  getFineTuningAdapter,
  getFineTuningSampleContent,
  listFineTuningCheckpoints,
  listFineTuningEvents,
  listFineTuningMetrics,
  listFineTuningSamples,
} from './routes/fine-tuning-progress.ts'
import { generateImages } from './routes/generate-images.ts'
import { getGenerationPreview, streamGenerationEvents } from './routes/generation-events.ts'
import {
  cancelGeneration,
  createGeneration,
  deleteGeneration,
  deleteGenerations,
  getGeneration,
  listGenerations,
} from './routes/generations.ts'
import { getImage, getImageContent } from './routes/images.ts'
import { listDevices } from './routes/devices.ts'
import { createKey, getKey, listKeys, revokeKey, updateKey } from './routes/keys.ts'
import { getModel, listModels } from './routes/models.ts'
import {
  listWebhookDeliveries,
  listWebhookSecrets,
  replayWebhookDelivery,
  rotateWebhookSecret,
} from './routes/webhooks.ts'
import { getContract, getLiveness, getMetrics, getReadiness } from './routes/service.ts'
import { createAjv, shorten, validatorCompiler } from './validation.ts'

export interface AppDependencies {
  readonly access: Pick<AccessService, 'keys' | 'keyring' | 'windows'>
  readonly generation: GenerationService
  readonly datasets: DatasetService
  readonly fineTuning: FineTuningService
  readonly webhooks: WebhookService
  readonly config: Config
  /** What addresses are signed with; the same in all processes of an installation. */
  readonly urlKey: Uint8Array
  readonly logger?: FastifyBaseLogger
  /** Aborted when the process was told to end: it says that it is not ready, and serves on until `close()`. */
  readonly ending?: AbortSignal
  readonly tracing?: Tracing | undefined
  /** How long `close()` lets waiting requests wait on before they are answered with 503; as configured, unless told. */
  readonly drainMs?: number
  /** After how long a silent stream of events is given a comment, so that nobody on the way hangs up. */
  readonly keepAliveMs?: number
  /** Where the built pages are; those of this installation, unless told. */
  readonly pages?: string
  /** Called before the routes are registered; tests hang their checks here. */
  readonly extend?: (app: FastifyInstance) => Promise<void>
}

/** Enough for the two longest prompts with every character escaped as a surrogate pair (2 × 4,000 × 12 bytes). */
const bodyLimitBytes = 256 * 1024

/** @throws when openapi.yaml and the handlers do not match */
export async function buildApp(dependencies: AppDependencies): Promise<FastifyInstance> {
  const {
    access,
    generation,
    datasets,
    fineTuning,
    webhooks,
    config,
    ending,
    tracing,
    drainMs = config.drainTimeoutSeconds * 1000,
    keepAliveMs = 15_000,
  } = dependencies
  const contract = readContract()
  const app: FastifyInstance = Fastify({
    loggerInstance: dependencies.logger ?? pino({ level: config.logLevel }),
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    bodyLimit: bodyLimitBytes,
    trustProxy: config.trustedProxies.length > 0 && [...config.trustedProxies],
    // Bodies are timed by the hook below.
    requestTimeout: 0,
    http: { headersTimeout: headTimeoutMs },
    genReqId: chooseRequestId,
    // Fastify's own answer has another shape; the hook below gives ours.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) =>
      sendError(error, request as FastifyRequest, reply as unknown as FastifyReply),
    clientErrorHandler: answerClientError,
    routerOptions: { maxParamLength: 256 },
  })

  const lifecycle = createLifecycle(app.server, ending)
  const links = createLinks(dependencies)
  const metrics = createMetrics(generation, fineTuning)
  const archiveTypes = archiveTypesOf(contract.document)

  app.removeContentTypeParser('text/plain')
  // Nobody reads ahead: the handler is given the stream, and of an operation that takes none it is refused below.
  app.addContentTypeParser([...new Set([...archiveTypes.values()].flat())], (_request, payload, done) =>
    done(null, payload),
  )
  app.setValidatorCompiler(validatorCompiler(createAjv()))
  // Answers are checked in tests; in service nothing may be stripped from them.
  app.setSerializerCompiler(() => (value) => JSON.stringify(value))
  app.setErrorHandler(sendError)
  app.setNotFoundHandler((request, reply) =>
    sendError(unknownRoute(request, contract.document), request, reply),
  )

  const traces = new WeakMap<FastifyRequest, RequestTrace>()
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    const { traceparent } = request.headers
    if (tracing)
      traces.set(request, tracing.request(typeof traceparent === 'string' ? traceparent : undefined))
    done()
  })
  await registerHeaders(app, config)
  const limits = await registerRateLimits(app, access.windows, config)
  const doorkeeper = createDoorkeeper({ ...access, document: contract.document, limits, links, config })
  app.addHook('onRequest', async (request, reply) => {
    if (lifecycle.isClosing)
      throw new ApiError('shutting_down', 'The server is shutting down', { headers: { 'retry-after': '5' } })
    await doorkeeper.admit(request, reply)
    forgetTypeOfNothing(request)
    refuseEncodedBody(request)
  })
  app.addHook('preParsing', (request, _reply, payload, done) => {
    if (!hasBody(request)) return done(null, payload)
    const types = archivesFor(request, archiveTypes)
    refuseOtherTypes(request, types)
    done(null, inTime(payload, patienceFor(isOneOf(request.mediaType, types) ? 'piece' : 'body')))
  })
  app.addHook('preValidation', (request, _reply, done) => {
    refuseUnknownQuery(request)
    requireJsonBody(request, archivesFor(request, archiveTypes))
    done()
  })
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // Connections that stay open would keep the server from closing, and their clients from going elsewhere.
    if (lifecycle.isLeaving) reply.header('connection', 'close')
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const { method, routeOptions, log } = request
    const { statusCode: status, elapsedTime } = reply
    log.info({ method, route: routeOptions.url, status, durationMs: Math.round(elapsedTime) }, 'answered')
    hangUpOnRest(request)
    traces.get(request)?.end({ method, route: routeOptions.url ?? 'unknown', status, requestId: request.id })
    metrics.observeRequest({ method, route: routeOptions.url ?? 'unknown', status }, elapsedTime / 1000)
    done()
  })
  app.addHook('preClose', async () => lifecycle.close(drainMs))
  app.addHook('onClose', async () => lifecycle.closed())

  await dependencies.extend?.(app)
  const startedAt = new Date()
  const routes: RouteDependencies = {
    access,
    generation,
    datasets,
    fineTuning,
    webhooks,
    config,
    contract,
    lifecycle,
    links,
    metrics,
    startedAt,
    traceparentOf: (request) => traces.get(request)?.traceparent,
    keepAliveMs,
  }
  await registerOperations(app, contract, {
    generateImages: generateImages(routes),
    createGeneration: createGeneration(routes),
    listGenerations: listGenerations(routes),
    getGeneration: getGeneration(routes),
    deleteGeneration: deleteGeneration(routes),
    deleteGenerations: deleteGenerations(routes),
    cancelGeneration: cancelGeneration(routes),
    streamGenerationEvents: streamGenerationEvents(routes),
    getGenerationPreview: getGenerationPreview(routes),
    getImage: getImage(routes),
    getImageContent: getImageContent(routes),
    createFineTuningJob: createFineTuningJob(routes),
    listFineTuningJobs: listFineTuningJobs(routes),
    getFineTuningJob: getFineTuningJob(routes),
    deleteFineTuningJob: deleteFineTuningJob(routes),
    cancelFineTuningJob: cancelFineTuningJob(routes),
    pauseFineTuningJob: pauseFineTuningJob(routes),
    resumeFineTuningJob: resumeFineTuningJob(routes),
    listFineTuningEvents: listFineTuningEvents(routes),
    listFineTuningMetrics: listFineTuningMetrics(routes),
    listFineTuningSamples: listFineTuningSamples(routes),
    getFineTuningSampleContent: getFineTuningSampleContent(routes),
    listFineTuningCheckpoints: listFineTuningCheckpoints(routes),
    getFineTuningAdapter: getFineTuningAdapter(routes),
    deployFineTuningCheckpoint: deployFineTuningCheckpoint(routes),
    listDeployments: listDeployments(routes),
    listDevices: listDevices(routes),
    getDeployment: getDeployment(routes),
    deleteDeployment: deleteDeployment(routes),
    rollbackModel: rollbackModel(routes),
    withdrawModel: withdrawModel(routes),
    createDataset: createDataset(routes),
    listDatasets: listDatasets(routes),
    getDataset: getDataset(routes),
    deleteDataset: deleteDataset(routes),
    listDatasetProblems: listDatasetProblems(routes),
    listDatasetItems: listDatasetItems(routes),
    getDatasetItem: getDatasetItem(routes),
    updateDatasetItem: updateDatasetItem(routes),
    getDatasetItemContent: getDatasetItemContent(routes),
    listWebhookDeliveries: listWebhookDeliveries(routes),
    replayWebhookDelivery: replayWebhookDelivery(routes),
    listWebhookSecrets: listWebhookSecrets(routes),
    rotateWebhookSecret: rotateWebhookSecret(routes),
    createKey: createKey(routes),
    listKeys: listKeys(routes),
    getKey: getKey(routes),
    updateKey: updateKey(routes),
    revokeKey: revokeKey(routes),
    listModels: listModels(routes),
    getModel: getModel(routes),
    getLiveness: getLiveness(),
    getReadiness: getReadiness(routes),
    getMetrics: getMetrics(routes),
    getContract: getContract(routes),
  })
  await registerPages(app, { folder: dependencies.pages ?? builtPages, links })
  return app
}

/** @returns the client's own request id where it is fit for logs and headers */
function chooseRequestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : `req_${randomUUID()}`
}

function sendError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = asApiError(thrown)
  const { status, code, param } = error
  if (code === 'internal_error' || code === 'database_unavailable')
    request.log.error({ err: error.cause }, 'request failed')
  // The name of an unknown parameter is the client's own words.
  else request.log.debug({ code, ...(code !== 'unknown_parameter' && { param }) }, 'request refused')
  void reply
    .code(status)
    .headers({ 'x-request-id': request.id, ...error.headers })
    .type('application/json')
    .send(error.toBody(request.id))
}

function unknownRoute({ method, url }: FastifyRequest, document: ContractDocument): ApiError {
  const path = url.replace(/[?#].*$/s, '')
  const allowed = methodsOf(document, path)
  const came = `${method} ${shorten(path)}`
  if (allowed.length > 0) {
    const message = `${came}: expected ${allowed.join(' or ')}`
    return new ApiError('method_not_allowed', message, { headers: { allow: allowed.join(', ') } })
  }
  const routes = listOperations(document).map((operation) => `${operation.method} ${operation.path}`)
  return new ApiError('unknown_url', `${came}: expected one of ${routes.join(', ')}`)
}

function refuseUnknownQuery(request: FastifyRequest): void {
  if (operationOf(request) === undefined) return
  const { query, routeOptions } = request
  const schema = routeOptions.schema?.querystring as { properties?: object } | undefined
  const known = Object.keys(schema?.properties ?? {})
  const name = Object.keys(query as object).find((name) => !known.includes(name))
  if (name === undefined) return
  const param = shorten(name)
  const expected = known.length === 0 ? 'no query parameters' : `only ${known.join(', ')}`
  throw new ApiError('unknown_parameter', `${param}: expected ${expected} here`, { param })
}

/** Some clients name the type of a body even where they send none; where none is expected that does no harm. */
function forgetTypeOfNothing({ routeOptions, headers }: FastifyRequest): void {
  const sendsNothing =
    headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0
  if (routeOptions.schema?.body === undefined && sendsNothing) delete headers['content-type']
}

/** Bodies are small; one that is packed would be read as if it were not. */
function refuseEncodedBody({ headers }: FastifyRequest): void {
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding === 'identity') return
  throw new ApiError('unsupported_media_type', `Content-Encoding: expected none, got ${encoding}`, {
    param: 'Content-Encoding',
  })
}

type MediaTypes = readonly string[]

const archivesFor = (request: FastifyRequest, types: ReadonlyMap<string, MediaTypes>): MediaTypes =>
  types.get(operationOf(request) ?? '') ?? []

const isOneOf = (mediaType: string | undefined, types: MediaTypes): boolean =>
  mediaType !== undefined && types.includes(mediaType)

/** Where there is a choice the framework's own refusal would name only one of them. */
function refuseOtherTypes({ mediaType }: FastifyRequest, archives: MediaTypes): void {
  if (archives.length === 0 || mediaType === 'application/json' || isOneOf(mediaType, archives)) return
  const expected = `application/json or one of ${archives.join(', ')}`
  throw new ApiError(
    'unsupported_media_type',
    `Content-Type: expected ${expected}, got ${mediaType ?? 'none'}`,
    {
      param: 'Content-Type',
    },
  )
}

/** Fastify validates a body by its media type, so that a body of none would pass unseen. */
function requireJsonBody({ routeOptions, mediaType, body }: FastifyRequest, archives: MediaTypes): void {
  if (routeOptions.schema?.body === undefined) return
  if (mediaType === 'application/json' || isOneOf(mediaType, archives)) return
  if (body === undefined)
    throw new ApiError('malformed_json', 'body: expected a JSON object, got nothing', { param: 'body' })
  throw new ApiError(
    'unsupported_media_type',
    `Content-Type: expected application/json, got ${mediaType ?? 'none'}`,
    {
      param: 'Content-Type',
    },
  )
}
