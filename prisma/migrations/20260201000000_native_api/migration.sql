-- Rows of before count as normal requests of one second's work; none of them asked for previews.
CREATE TYPE "GenerationPriority" AS ENUM ('low', 'normal', 'high');

ALTER TABLE "Generation"
    ADD COLUMN "priority" "GenerationPriority" NOT NULL DEFAULT 'normal',
    ADD COLUMN "deadline" TIMESTAMPTZ(3),
    ADD COLUMN "previewSteps" INTEGER[] NOT NULL DEFAULT '{}',
    ADD COLUMN "expectedMs" DOUBLE PRECISION NOT NULL DEFAULT 1000,
    ADD COLUMN "rowTokens" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "turnAt" TIMESTAMPTZ(3),
    ADD COLUMN "claimed" BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN "crashes" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "eventCount" INTEGER NOT NULL DEFAULT 0;

UPDATE "Generation" SET "turnAt" = "createdAt", "claimed" = ("state" = 'running');

ALTER TABLE "Generation"
    ALTER COLUMN "turnAt" SET NOT NULL,
    ALTER COLUMN "expectedMs" DROP DEFAULT,
    ALTER COLUMN "rowTokens" DROP DEFAULT,
    ADD CONSTRAINT "Generation_work_check" CHECK ("expectedMs" >= 0 AND "expectedMs" < 'Infinity' AND "rowTokens" >= 0),
    ADD CONSTRAINT "Generation_claimed_check" CHECK (
        ("state" <> 'running' OR "claimed") AND (NOT "claimed" OR ("state" IN ('queued', 'running') AND "attempt" > 0)));

ALTER TABLE "Image"
    ADD COLUMN "device" TEXT,
    ADD COLUMN "deviceMs" DOUBLE PRECISION,
    ADD COLUMN "rowSteps" INTEGER,
    ADD COLUMN "meanBatchRows" DOUBLE PRECISION,
    ADD COLUMN "maxBatchRows" INTEGER,
    ADD COLUMN "promptCached" BOOLEAN,
    ADD CONSTRAINT "Image_receipt_check" CHECK (
        num_nonnulls("device", "deviceMs", "rowSteps", "meanBatchRows", "maxBatchRows", "promptCached") IN (0, 6));

CREATE TABLE "GenerationEvent" (
    "generationId" TEXT NOT NULL,
    "sequence" INTEGER NOT NULL,
    "type" TEXT NOT NULL,
    "data" JSONB NOT NULL,
    "blobKey" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "GenerationEvent_pkey" PRIMARY KEY ("generationId", "sequence"),
    CONSTRAINT "GenerationEvent_sequence_check" CHECK ("sequence" > 0),
    CONSTRAINT "GenerationEvent_type_check" CHECK (
        "type" IN ('queued', 'started', 'step', 'preview', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT "GenerationEvent_blob_check" CHECK (("type" = 'preview') = ("blobKey" IS NOT NULL))
);

ALTER TABLE "GenerationEvent" ADD CONSTRAINT "GenerationEvent_generationId_fkey"
    FOREIGN KEY ("generationId") REFERENCES "Generation" ("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- A key outlives the generation that it stands for, so that a late repetition makes no second one.
ALTER TABLE "IdempotencyKey"
    DROP CONSTRAINT "IdempotencyKey_generationId_fkey",
    ALTER COLUMN "generationId" DROP NOT NULL,
    ADD COLUMN "operation" TEXT NOT NULL DEFAULT 'generateImages',
    ADD COLUMN "answer" JSONB,
    ADD CONSTRAINT "IdempotencyKey_answer_check" CHECK ("generationId" IS NULL OR "answer" IS NULL);
ALTER TABLE "IdempotencyKey" ALTER COLUMN "operation" DROP DEFAULT;
DROP INDEX "IdempotencyKey_generationId_key";

CREATE INDEX "GenerationEvent_createdAt_idx" ON "GenerationEvent" ("createdAt");
CREATE UNIQUE INDEX "GenerationEvent_blobKey_key" ON "GenerationEvent" ("blobKey");
DROP INDEX "Generation_state_createdAt_idx";
CREATE INDEX "Generation_state_createdAt_id_idx" ON "Generation" ("state", "createdAt", "id");
CREATE INDEX "Generation_model_createdAt_id_idx" ON "Generation" ("model", "createdAt", "id");
-- What waits and runs is few among many; admission, claims and queue positions look at nothing else.
CREATE INDEX "Generation_unsettled_idx" ON "Generation" ("turnAt", "id") WHERE "state" IN ('queued', 'running');
