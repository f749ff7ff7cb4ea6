CREATE TYPE "GenerationState" AS ENUM ('queued', 'running', 'succeeded', 'failed', 'cancelled');

CREATE TABLE "Generation" (
    "id" TEXT NOT NULL,
    "state" "GenerationState" NOT NULL DEFAULT 'queued',
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "requestId" TEXT NOT NULL,
    "user" TEXT,
    "model" TEXT NOT NULL,
    "prompt" TEXT NOT NULL,
    "negativePrompt" TEXT NOT NULL,
    "width" INTEGER NOT NULL,
    "height" INTEGER NOT NULL,
    "count" INTEGER NOT NULL,
    "seed" BIGINT NOT NULL,
    "seedIndex" INTEGER NOT NULL,
    "steps" INTEGER NOT NULL,
    "guidanceScale" DOUBLE PRECISION NOT NULL,
    "scheduler" TEXT NOT NULL,
    "cleanCaption" BOOLEAN NOT NULL,
    "format" TEXT NOT NULL,
    "compression" INTEGER NOT NULL,
    "modelVersion" TEXT,
    "errorCode" TEXT,
    "errorMessage" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "startedAt" TIMESTAMPTZ(3),
    "finishedAt" TIMESTAMPTZ(3),
    CONSTRAINT "Generation_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Generation_finished_check" CHECK (("state" IN ('succeeded', 'failed', 'cancelled')) = ("finishedAt" IS NOT NULL)),
    CONSTRAINT "Generation_running_check" CHECK ("state" <> 'running' OR ("startedAt" IS NOT NULL AND "attempt" > 0)),
    CONSTRAINT "Generation_error_check" CHECK (("state" = 'failed') = ("errorCode" IS NOT NULL) AND ("errorCode" IS NULL) = ("errorMessage" IS NULL)),
    CONSTRAINT "Generation_size_check" CHECK ("width" > 0 AND "height" > 0 AND "count" > 0 AND "steps" > 0),
    CONSTRAINT "Generation_seed_check" CHECK ("seed" BETWEEN 0 AND 9007199254740991 AND "seedIndex" >= 0),
    CONSTRAINT "Generation_format_check" CHECK ("format" IN ('png', 'jpeg', 'webp'))
);

CREATE TABLE "Image" (
    "id" TEXT NOT NULL,
    "generationId" TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    "seed" BIGINT NOT NULL,
    "seedIndex" INTEGER NOT NULL,
    "width" INTEGER NOT NULL,
    "height" INTEGER NOT NULL,
    "bucketWidth" INTEGER NOT NULL,
    "bucketHeight" INTEGER NOT NULL,
    "format" TEXT NOT NULL,
    "sizeBytes" INTEGER NOT NULL,
    "sha256" CHAR(64) NOT NULL,
    "blobKey" TEXT NOT NULL,
    "promptTruncated" BOOLEAN NOT NULL,
    "modelVersion" TEXT NOT NULL,
    "waitMs" DOUBLE PRECISION NOT NULL,
    "encodeMs" DOUBLE PRECISION NOT NULL,
    "denoiseMs" DOUBLE PRECISION NOT NULL,
    "decodeMs" DOUBLE PRECISION NOT NULL,
    "computeMs" DOUBLE PRECISION NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "Image_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Image_size_check" CHECK ("width" > 0 AND "height" > 0 AND "sizeBytes" > 0 AND "index" >= 0),
    CONSTRAINT "Image_seed_check" CHECK ("seed" BETWEEN 0 AND 9007199254740991 AND "seedIndex" >= 0),
    CONSTRAINT "Image_format_check" CHECK ("format" IN ('png', 'jpeg', 'webp')),
    CONSTRAINT "Image_sha256_check" CHECK ("sha256" ~ '^[0-9a-f]{64}$')
);

CREATE TABLE "IdempotencyKey" (
    "key" TEXT NOT NULL,
    "bodySha256" CHAR(64) NOT NULL,
    "generationId" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "IdempotencyKey_pkey" PRIMARY KEY ("key")
);

CREATE INDEX "Generation_state_createdAt_idx" ON "Generation" ("state", "createdAt");
CREATE INDEX "Generation_createdAt_id_idx" ON "Generation" ("createdAt", "id");
CREATE UNIQUE INDEX "Image_blobKey_key" ON "Image" ("blobKey");
CREATE UNIQUE INDEX "Image_generationId_index_key" ON "Image" ("generationId", "index");
CREATE UNIQUE INDEX "IdempotencyKey_generationId_key" ON "IdempotencyKey" ("generationId");
CREATE INDEX "IdempotencyKey_createdAt_idx" ON "IdempotencyKey" ("createdAt");

ALTER TABLE "Image" ADD CONSTRAINT "Image_generationId_fkey"
    FOREIGN KEY ("generationId") REFERENCES "Generation" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "IdempotencyKey" ADD CONSTRAINT "IdempotencyKey_generationId_fkey"
    FOREIGN KEY ("generationId") REFERENCES "Generation" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
