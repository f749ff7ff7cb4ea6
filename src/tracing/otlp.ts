/** Traces as OpenTelemetry's SDK records and sends them. The receiver, its headers and limits are read from the standard variables. */
import { randomUUID } from 'node:crypto'
import {
  context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import { PictureSpans } from './picture-spans.ts'
import { samplerOf } from './sampler.ts'
import type { Tracing } from './tracing.ts'

const propagator = new W3CTraceContextPropagator()

const contextOf = (traceparent: string | undefined): Context =>
  traceparent === undefined
    ? ROOT_CONTEXT
    : propagator.extract(ROOT_CONTEXT, { traceparent }, defaultTextMapGetter)

function traceparentOf(span: Span): string {
  const carrier: { traceparent?: string } = {}
  propagator.inject(trace.setSpan(ROOT_CONTEXT, span), carrier, defaultTextMapSetter)
  return carrier.traceparent ?? ''
}

/** @param process what this one does, such as `worker` */
export function createTracing(
  environment: Readonly<Record<string, string | undefined>>,
  process: string,
): Tracing {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': environment['OTEL_SERVICE_NAME'] ?? 'atelier',
      'service.instance.id': randomUUID(),
      'atelier.process': process,
    }),
    sampler: samplerOf(environment),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  })
  const tracer = provider.getTracer('atelier')
  return {
    request(parent) {
      const span = tracer.startSpan('HTTP', { kind: SpanKind.SERVER }, contextOf(parent))
      return {
        traceparent: traceparentOf(span),
        end({ method, route, status, requestId }) {
          span.updateName(`${method} ${route}`)
          span.setAttributes({
            'http.request.method': method,
            'http.route': route,
            'http.response.status_code': status,
            'atelier.request_id': requestId,
          })
          if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
    generation({ id, requestId, traceparent, createdAt, attempt, parameters }) {
      const span = tracer.startSpan(
        'generation',
        {
          kind: SpanKind.CONSUMER,
          startTime: createdAt,
          attributes: {
            'atelier.generation_id': id,
            'atelier.request_id': requestId,
            'atelier.model': parameters.model,
            'atelier.attempt': attempt,
          },
        },
        contextOf(traceparent),
      )
      const inside = trace.setSpan(context.active(), span)
      tracer.startSpan('queue', { startTime: createdAt }, inside).end()
      return {
        picture: (index) => new PictureSpans(tracer, inside, index),
        end(outcome) {
          span.setAttribute('atelier.outcome', outcome)
          if (outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
    run({ id, attempt, model }) {
      const attributes = { 'atelier.job_id': id, 'atelier.attempt': attempt, 'atelier.model': model }
      const span = tracer.startSpan('fine-tuning', { kind: SpanKind.CONSUMER, attributes }, ROOT_CONTEXT)
      const inside = trace.setSpan(ROOT_CONTEXT, span)
      let running: Span | undefined
      return {
        stageStarted(stage, kind) {
          running?.end()
          const attributes = { 'atelier.stage': stage, 'atelier.stage_kind': kind }
          running = tracer.startSpan('stage', { attributes }, inside)
        },
        stageFinished(steps) {
          running?.setAttribute('atelier.steps', steps)
          running?.end()
          running = undefined
        },
        end(outcome) {
          running?.end()
          span.setAttribute('atelier.outcome', outcome)
          if (outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
    delivery({ id, event, generationId, attempts, traceparent }) {
      const attributes = {
        'atelier.delivery_id': id,
        'atelier.event': event,
        'atelier.generation_id': generationId,
        'atelier.attempt': attempts,
      }
      const span = tracer.startSpan('webhook', { kind: SpanKind.CLIENT, attributes }, contextOf(traceparent))
      return {
        end({ kind, status }) {
          span.setAttribute('atelier.outcome', kind)
          if (status !== undefined) span.setAttribute('http.response.status_code', status)
          if (kind !== 'delivered') span.setStatus({ code: SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
    close: () => provider.shutdown(),
  }
}
