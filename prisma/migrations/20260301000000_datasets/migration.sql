CREATE TYPE "DatasetState" AS ENUM ('receiving', 'validating', 'ready', 'failed');

CREATE TABLE "Dataset" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "state" "DatasetState" NOT NULL DEFAULT 'receiving',
    "source" TEXT NOT NULL,
    "folder" TEXT,
    "labels" TEXT NOT NULL,
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "receivedBytes" BIGINT NOT NULL DEFAULT 0,
    "expectedBytes" BIGINT,
    "filesRead" INTEGER NOT NULL DEFAULT 0,
    "items" INTEGER NOT NULL DEFAULT 0,
    "captioned" INTEGER NOT NULL DEFAULT 0,
    "labelled" INTEGER NOT NULL DEFAULT 0,
    "scored" INTEGER NOT NULL DEFAULT 0,
    "problems" INTEGER NOT NULL DEFAULT 0,
    "leftOut" INTEGER NOT NULL DEFAULT 0,
    "sizeBytes" BIGINT NOT NULL DEFAULT 0,
    "errorCode" TEXT,
    "errorMessage" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finishedAt" TIMESTAMPTZ(3),
    CONSTRAINT "Dataset_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Dataset_finished_check" CHECK (("state" IN ('ready', 'failed')) = ("finishedAt" IS NOT NULL)),
    CONSTRAINT "Dataset_error_check" CHECK (
        ("state" = 'failed') = ("errorCode" IS NOT NULL) AND ("errorCode" IS NULL) = ("errorMessage" IS NULL)),
    CONSTRAINT "Dataset_source_check" CHECK (("source" = 'folder') = ("folder" IS NOT NULL) AND "source" IN ('upload', 'folder')),
    CONSTRAINT "Dataset_labels_check" CHECK ("labels" IN ('auto', 'folders', 'none')),
    CONSTRAINT "Dataset_counts_check" CHECK (
        "receivedBytes" >= 0 AND "filesRead" >= 0 AND "sizeBytes" >= 0 AND "attempt" >= 0
        AND "captioned" BETWEEN 0 AND "items" AND "labelled" BETWEEN 0 AND "items" AND "scored" BETWEEN 0 AND "items"
        AND "leftOut" BETWEEN 0 AND "problems" AND ("state" <> 'ready' OR "items" > 0))
);

CREATE TABLE "DatasetItem" (
    "datasetId" TEXT NOT NULL,
    "id" TEXT NOT NULL,
    "position" INTEGER NOT NULL,
    "path" TEXT NOT NULL,
    "sha256" CHAR(64) NOT NULL,
    "format" TEXT NOT NULL,
    "width" INTEGER NOT NULL,
    "height" INTEGER NOT NULL,
    "sizeBytes" INTEGER NOT NULL,
    "captions" TEXT[],
    "label" TEXT,
    "aestheticScore" DOUBLE PRECISION,
    CONSTRAINT "DatasetItem_pkey" PRIMARY KEY ("datasetId", "id"),
    CONSTRAINT "DatasetItem_size_check" CHECK ("width" > 0 AND "height" > 0 AND "sizeBytes" > 0 AND "position" >= 0),
    CONSTRAINT "DatasetItem_sha256_check" CHECK ("sha256" ~ '^[0-9a-f]{64}$'),
    CONSTRAINT "DatasetItem_format_check" CHECK ("format" IN ('png', 'jpeg', 'webp', 'avif', 'gif', 'tiff')),
    CONSTRAINT "DatasetItem_label_check" CHECK ("label" <> ''),
    CONSTRAINT "DatasetItem_score_check" CHECK ("aestheticScore" > '-Infinity' AND "aestheticScore" < 'Infinity')
);

CREATE TABLE "DatasetProblem" (
    "datasetId" TEXT NOT NULL,
    "position" INTEGER NOT NULL,
    "path" TEXT NOT NULL,
    "code" TEXT NOT NULL,
    "message" TEXT NOT NULL,
    "itemId" TEXT,
    CONSTRAINT "DatasetProblem_pkey" PRIMARY KEY ("datasetId", "position"),
    CONSTRAINT "DatasetProblem_position_check" CHECK ("position" >= 0)
);

CREATE INDEX "Dataset_createdAt_id_idx" ON "Dataset" ("createdAt", "id");
CREATE UNIQUE INDEX "DatasetItem_datasetId_position_key" ON "DatasetItem" ("datasetId", "position");
CREATE INDEX "DatasetItem_datasetId_label_idx" ON "DatasetItem" ("datasetId", "label");
CREATE INDEX "DatasetProblem_datasetId_itemId_idx" ON "DatasetProblem" ("datasetId", "itemId");

ALTER TABLE "DatasetItem" ADD CONSTRAINT "DatasetItem_datasetId_fkey"
    FOREIGN KEY ("datasetId") REFERENCES "Dataset" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "DatasetProblem" ADD CONSTRAINT "DatasetProblem_datasetId_fkey"
    FOREIGN KEY ("datasetId") REFERENCES "Dataset" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
-- Both go with their dataset; neither goes alone.
ALTER TABLE "DatasetProblem" ADD CONSTRAINT "DatasetProblem_itemId_fkey"
    FOREIGN KEY ("datasetId", "itemId") REFERENCES "DatasetItem" ("datasetId", "id") ON DELETE NO ACTION ON UPDATE NO ACTION;
