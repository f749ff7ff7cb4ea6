/** Datasets, their pictures and problems as the contract has them. */
import type { Dataset, DatasetItem, DatasetProblem } from '../../datasets/dataset.ts'
import type { BucketCount, LabelCount } from '../../datasets/service.ts'
import type { SchemaDataset, SchemaDatasetItem, SchemaDatasetProblem } from '../../sdk/schema.ts'
import type { Addressed } from '../links.ts'
import type { RouteDependencies } from './dependencies.ts'

/** What is told of a single dataset only. */
interface Details {
  readonly labels?: readonly LabelCount[]
  readonly buckets?: readonly BucketCount[]
}

export function describeDataset(dataset: Dataset, { labels, buckets }: Details = {}): SchemaDataset {
  const { id, name, state, createdAt, source, counts } = dataset
  const isUpload = source.kind === 'upload'
  return {
    id,
    object: 'dataset',
    name,
    state,
    created_at: createdAt.toISOString(),
    finished_at: 'finishedAt' in dataset ? dataset.finishedAt.toISOString() : null,
    source: {
      kind: source.kind,
      received_bytes: isUpload ? source.receivedBytes : null,
      expected_bytes: isUpload ? (source.expectedBytes ?? null) : null,
      folder: isUpload ? null : source.folder,
    },
    label_source: dataset.labels,
    counts: {
      files_read: counts.filesRead,
      items: counts.items,
      captioned: counts.captioned,
      labelled: counts.labelled,
      scored: counts.scored,
      problems: counts.problems,
      left_out: counts.leftOut,
      size_bytes: counts.sizeBytes,
    },
    captioned_share: counts.items === 0 ? null : counts.captioned / counts.items,
    labels: labels ? labels.map(({ label, items }) => ({ label, items })) : null,
    buckets: buckets ? buckets.map(({ width, height, items }) => ({ width, height, items })) : null,
    error: 'error' in dataset ? { code: dataset.error.code, message: dataset.error.message } : null,
  }
}

export function describeItem(
  item: DatasetItem,
  request: Addressed,
  { links }: Pick<RouteDependencies, 'links'>,
): SchemaDatasetItem {
  const { id, datasetId, path, format, width, height, sizeBytes, sha256, captions } = item
  return {
    id,
    object: 'dataset.item',
    dataset_id: datasetId,
    path,
    url: links.signed(request, `/v1/datasets/${datasetId}/items/${id}/content`),
    format,
    width,
    height,
    size_bytes: sizeBytes,
    sha256,
    captions: [...captions],
    label: item.label ?? null,
    aesthetic_score: item.aestheticScore ?? null,
    problems: item.problems.map(describeProblem),
  }
}

export function describeProblem({
  path,
  code,
  message,
  effect,
  itemId,
}: DatasetProblem): SchemaDatasetProblem {
  return { path, code, message, effect, item_id: itemId ?? null }
}
