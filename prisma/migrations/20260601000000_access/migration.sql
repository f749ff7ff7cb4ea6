-- Who may call: keys of projects, what they have used, and whose each row is. What was there before belongs to the project `default`;
-- so does what a process of the version before writes while it still runs beside newer ones.

CREATE TABLE "ApiKey" (
    "id" TEXT NOT NULL,
    "project" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "prefix" TEXT NOT NULL,
    "sha256" CHAR(64) NOT NULL,
    "scopes" TEXT[] NOT NULL,
    "requestsPerMinute" INTEGER,
    "maxInFlight" INTEGER,
    "imagesPerMonth" INTEGER,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expiresAt" TIMESTAMPTZ(3),
    "lastUsedAt" TIMESTAMPTZ(3),
    "revokedAt" TIMESTAMPTZ(3),
    CONSTRAINT "ApiKey_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "ApiKey_project_check" CHECK ("project" ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT "ApiKey_scopes_check" CHECK (cardinality("scopes") > 0 AND "scopes" <@ ARRAY['generate', 'read', 'admin']),
    CONSTRAINT "ApiKey_limits_check" CHECK ("requestsPerMinute" > 0 AND "maxInFlight" > 0 AND "imagesPerMonth" > 0)
);

CREATE UNIQUE INDEX "ApiKey_sha256_key" ON "ApiKey"("sha256");
CREATE INDEX "ApiKey_project_createdAt_id_idx" ON "ApiKey"("project", "createdAt", "id");

CREATE TABLE "ApiKeyMonth" (
    "keyId" TEXT NOT NULL,
    "month" TEXT NOT NULL,
    "images" INTEGER NOT NULL,
    CONSTRAINT "ApiKeyMonth_pkey" PRIMARY KEY ("keyId", "month"),
    CONSTRAINT "ApiKeyMonth_keyId_fkey" FOREIGN KEY ("keyId") REFERENCES "ApiKey"("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- What it holds is worth nothing a minute later.
CREATE UNLOGGED TABLE "RateWindow" (
    "subject" TEXT NOT NULL,
    "startedAt" TIMESTAMPTZ(3) NOT NULL,
    "used" INTEGER NOT NULL,
    "granted" INTEGER NOT NULL,
    CONSTRAINT "RateWindow_pkey" PRIMARY KEY ("subject")
);

CREATE INDEX "RateWindow_startedAt_idx" ON "RateWindow"("startedAt");

ALTER TABLE "Generation" ADD COLUMN "project" TEXT NOT NULL DEFAULT 'default', ADD COLUMN "keyId" TEXT;
ALTER TABLE "Generation" ADD CONSTRAINT "Generation_keyId_fkey" FOREIGN KEY ("keyId") REFERENCES "ApiKey"("id") ON DELETE SET NULL ON UPDATE CASCADE;
DROP INDEX "Generation_model_createdAt_id_idx";
DROP INDEX "Generation_createdAt_id_idx";
CREATE INDEX "Generation_project_createdAt_id_idx" ON "Generation"("project", "createdAt", "id");
CREATE INDEX "Generation_project_model_createdAt_id_idx" ON "Generation"("project", "model", "createdAt", "id");
CREATE INDEX "Generation_keyId_state_idx" ON "Generation"("keyId", "state");

ALTER TABLE "Dataset" ADD COLUMN "project" TEXT NOT NULL DEFAULT 'default';
DROP INDEX "Dataset_createdAt_id_idx";
CREATE INDEX "Dataset_project_createdAt_id_idx" ON "Dataset"("project", "createdAt", "id");

ALTER TABLE "FineTuningJob" ADD COLUMN "project" TEXT NOT NULL DEFAULT 'default';
CREATE INDEX "FineTuningJob_project_number_idx" ON "FineTuningJob"("project", "number");

ALTER TABLE "IdempotencyKey" ADD COLUMN "project" TEXT NOT NULL DEFAULT 'default';
ALTER TABLE "IdempotencyKey" DROP CONSTRAINT "IdempotencyKey_pkey", ADD CONSTRAINT "IdempotencyKey_pkey" PRIMARY KEY ("project", "key");
