/** `/v1/datasets/{id}/items`: a dataset's pictures, what is said of each, and their bytes. */
import type { DatasetItem } from '../../datasets/dataset.ts'
import { isNotModified } from '../byte-range.ts'
import type { ContractRequest, Handler } from '../contract.ts'
import { callerOf, mayLookAt } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { describeValue } from '../validation.ts'
import type { RouteDependencies } from './dependencies.ts'
import { describeItem } from './describe-dataset.ts'

export function listDatasetItems(dependencies: RouteDependencies): Handler<'listDatasetItems'> {
  return async (request) => {
    const { limit, cursor, filter, label } = request.query
    const mine = dependencies.datasets.of(callerOf(request))
    const page = await mine.items(request.params.id, { limit, cursor, filter, label })
    return {
      object: 'list',
      data: page.data.map((item) => describeItem(item, request, dependencies)),
      next_cursor: page.nextCursor ?? null,
    }
  }
}

async function findItem(
  request: ContractRequest<'getDatasetItem' | 'getDatasetItemContent'>,
  { datasets }: RouteDependencies,
): Promise<DatasetItem> {
  const { id, item } = request.params
  const found = await datasets.pictures(mayLookAt(request)).item(id, item)
  if (found) return found
  const message = `item: expected the id of a picture in this dataset, got ${describeValue(item)}; there is no such picture`
  throw new ApiError('dataset_item_not_found', message, { param: 'item' })
}

export function getDatasetItem(dependencies: RouteDependencies): Handler<'getDatasetItem'> {
  return async (request) => describeItem(await findItem(request, dependencies), request, dependencies)
}

export function updateDatasetItem(dependencies: RouteDependencies): Handler<'updateDatasetItem'> {
  return async (request) => {
    const { params, body } = request
    const changed = await dependencies.datasets.of(callerOf(request)).changeItem(params.id, params.item, {
      captions: body.captions?.map((caption) => caption.trim()),
      label: body.label?.trim() ?? body.label,
      aestheticScore: body.aesthetic_score,
    })
    return describeItem(changed, request, dependencies)
  }
}

export function getDatasetItemContent(dependencies: RouteDependencies): Handler<'getDatasetItemContent'> {
  const { datasets } = dependencies
  return async (request, reply) => {
    const pictures = datasets.pictures(mayLookAt(request))
    const item = await findItem(request, dependencies)
    const { max_side: maxSide } = request.query
    const etag = maxSide === undefined ? `"${item.sha256}"` : `"${item.sha256}-${maxSide}"`
    reply.headers({ etag, 'cache-control': 'private, max-age=31536000, immutable' })
    if (isNotModified(request.headers['if-none-match'], etag)) return reply.code(304).send()
    const format = maxSide === undefined ? item.format : 'webp'
    reply.headers({
      'content-type': `image/${format}`,
      'content-disposition': `inline; filename="${item.id}.${format}"`,
      'x-content-type-options': 'nosniff',
    })
    if (maxSide !== undefined) return reply.send(await pictures.thumbnail(item, maxSide))
    return reply.header('content-length', item.sizeBytes).send(await pictures.openPicture(item))
  }
}
