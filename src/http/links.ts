/** Where clients find things: addresses of this service, and of pictures in storage that clients can reach themselves. */
import { createSecretKey } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { LRUCache } from 'lru-cache'
import type { Config } from '../config.ts'
import type { PreviewEvent } from '../generation/events.ts'
import type { ImageRecord } from '../generation/generation.ts'
import type { GenerationService } from '../generation/service.ts'
import { ApiError } from './errors.ts'
import { checkSignature, expiryOf, signPath } from './signed-urls.ts'

export type Addressed = Pick<FastifyRequest, 'protocol' | 'host'>

export interface Links {
  /** Where the picture's bytes are, for a while. */
  image(request: Addressed, image: Pick<ImageRecord, 'id' | 'blobKey' | 'format'>): Promise<string>
  preview(request: Addressed, generationId: string, preview: PreviewEvent): Promise<string>
  /** Origins, besides the one that is asked, to which links to pictures may lead. */
  pictureOrigins(): Promise<string[]>
  /** A path of this service, for a while. */
  signed(request: Addressed, path: string): string
  /**
   * @returns whether the request came by such an address, and so needs no key
   * @throws {ApiError} `url_expired`, `invalid_signature`
   */
  isSigned(request: Pick<FastifyRequest, 'url' | 'routeOptions'>): boolean
}

export interface LinkOptions {
  readonly config: Pick<Config, 'publicUrl' | 'urlExpirySeconds'>
  readonly generation: Pick<GenerationService, 'linkToBlob'>
  /** What addresses are signed with. */
  readonly urlKey: Uint8Array
}

const mostKept = 10_000

export function createLinks({ config, generation, urlKey }: LinkOptions): Links {
  const key = createSecretKey(urlKey)
  /** By path and expiry: who looks again soon is told the same. */
  const signedPaths = new LRUCache<string, string>({ max: mostKept })
  const sign = (path: string, expiresAt: Date): string => {
    const name = `${path} ${expiresAt.getTime()}`
    const kept = signedPaths.get(name) ?? signPath(path, expiresAt, key)
    signedPaths.set(name, kept)
    return kept
  }
  const expiry = () => expiryOf(config.urlExpirySeconds, new Date())
  const signed = (request: Addressed, path: string) => `${addressOf(request, config)}${sign(path, expiry())}`
  const toBlob = async (blobKey: string, format: string, name: string) =>
    generation.linkToBlob(blobKey, {
      expiresAt: expiry(),
      contentType: `image/${format}`,
      fileName: `${name}.${format}`,
    })
  let storageUrl: string | undefined
  return {
    signed,
    pictureOrigins: async () => {
      // Storage stays where it is; whether it can be reached is no concern of who asks for a page.
      storageUrl ??= await toBlob('1/probe', 'png', 'probe').catch(() => undefined)
      const others = [config.publicUrl, storageUrl ?? ''].filter((url) => url !== '')
      return [...new Set(others.map((url) => new URL(url).origin))]
    },
    image: async (request, { id, blobKey, format }) =>
      (await toBlob(blobKey, format, id)) ?? signed(request, `/v1/images/${id}/content`),
    preview: async (request, generationId, { id, blobKey, format }) =>
      (await toBlob(blobKey, format, `${generationId}-${id}`)) ??
      signed(request, `/v1/generations/${generationId}/previews/${id}`),
    isSigned: ({ url, routeOptions }) => {
      const query = routeOptions.schema?.querystring as { properties?: object } | undefined
      if (!('signature' in (query?.properties ?? {}))) return false
      const check = checkSignature(url, key, new Date())
      switch (check.kind) {
        case 'absent':
          return false
        case 'valid':
          return true
        case 'expired':
          throw new ApiError(
            'url_expired',
            `expires: expected an address that is still good, got one that expired at ${check.expiredAt.toISOString()}; whoever may see the resource is told a new one with it`,
            { param: 'expires' },
          )
        case 'wrong':
          throw new ApiError(
            'invalid_signature',
            'signature: expected an address just as the service told it, got one that it did not sign',
            { param: 'signature' },
          )
      }
    },
  }
}

/** @returns where this service is: its public address, else the one that this client used */
export function addressOf({ protocol, host }: Addressed, { publicUrl }: Pick<Config, 'publicUrl'>): string {
  return publicUrl === '' ? `${protocol}://${host}` : publicUrl
}
