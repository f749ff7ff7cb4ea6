/** Where a generation stands among those that wait. */
import type { Transaction } from '../storage/database.ts'

/** How many waiting generations have their turn before each of these. */
export async function placesOf(
  transaction: Transaction,
  ids: readonly string[],
): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map()
  const rows = await transaction.$queryRaw<{ id: string; position: number }[]>`
    SELECT "id", "position" FROM (
      SELECT "id", (row_number() OVER (ORDER BY "turnAt", "id") - 1)::int AS "position"
      FROM "Generation" WHERE "state" = 'queued') AS waiting
    WHERE "id" IN (SELECT jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb))`
  return new Map(rows.map(({ id, position }) => [id, position]))
}

/** The work of all that waits and runs, and how many generations have their turn before one at `turnAt`. */
export async function lookAhead(
  transaction: Transaction,
  turnAt: Date,
  id = '',
): Promise<{ workMs: number; position: number }> {
  const [row] = await transaction.$queryRaw<[{ workMs: number; position: number }]>`
    SELECT coalesce(sum("expectedMs"), 0) AS "workMs",
      (count(*) FILTER (WHERE "state" = 'queued' AND "turnAt" <= ${turnAt} AND "id" <> ${id}))::int AS "position"
    FROM "Generation" WHERE "state" IN ('queued', 'running')`
  return row
}
