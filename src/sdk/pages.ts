/** Lists that come page by page. */

interface Cursor {
  readonly cursor?: string
}

/** Every entry of every page, fetched as they are asked for. */
export async function* followPages<T>(
  page: (cursor: Cursor) => Promise<{ readonly data: T[]; readonly next_cursor: string | null }>,
): AsyncGenerator<T, void, undefined> {
  let cursor: Cursor = {}
  for (;;) {
    const { data, next_cursor } = await page(cursor)
    yield* data
    if (next_cursor === null) return
    cursor = { cursor: next_cursor }
  }
}
