/** How weights are cut into files, by the rule and under the names of transformers and diffusers. */

/** Item after item; the one that does not fit begins the next shard. */
export function cutIntoShards<T>(
  items: Iterable<T>,
  sizeBytesOf: (item: T) => number,
  maxShardBytes: number,
): readonly (readonly T[])[] {
  const shards: T[][] = [[]]
  let filledBytes = 0
  for (const item of items) {
    const sizeBytes = sizeBytesOf(item)
    if (filledBytes > 0 && filledBytes + sizeBytes > maxShardBytes) {
      shards.push([])
      filledBytes = 0
    }
    shards.at(-1)?.push(item)
    filledBytes += sizeBytes
  }
  return shards
}

/**
 * @param stem the weights' name without `.safetensors`
 * @param index from 0
 */
export function shardName(stem: string, index: number, count: number): string {
  if (count === 1) return `${stem}.safetensors`
  const padded = (number: number): string => String(number).padStart(5, '0')
  return `${stem}-${padded(index + 1)}-of-${padded(count)}.safetensors`
}

/** The content of `STEM.safetensors.index.json`. */
export function shardIndex(weightMap: ReadonlyMap<string, string>, totalBytes: number) {
  const sorted = [...weightMap].sort(([a], [b]) => (a < b ? -1 : 1))
  return { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(sorted) }
}
