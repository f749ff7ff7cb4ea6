-- Who works with this database, and who holds what: the work of a process that is gone is taken up by others.
CREATE TABLE "Process" (
  "id" TEXT NOT NULL,
  "kind" TEXT NOT NULL,
  "host" TEXT NOT NULL,
  "pid" INTEGER NOT NULL,
  "startedAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "heardOfAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "goneAt" TIMESTAMPTZ(3),
  "serves" JSONB,
  CONSTRAINT "Process_pkey" PRIMARY KEY ("id"),
  CONSTRAINT "Process_kind_check" CHECK ("kind" IN ('serve', 'api', 'worker'))
);
CREATE INDEX "Process_goneAt_idx" ON "Process" ("goneAt");

ALTER TABLE "Generation" ADD COLUMN "heldBy" TEXT;
CREATE INDEX "Generation_claimed_idx" ON "Generation" ("heldBy") WHERE "claimed";

ALTER TABLE "FineTuningJob" ADD COLUMN "heldBy" TEXT;
ALTER TABLE "Dataset" ADD COLUMN "heldBy" TEXT;

ALTER TABLE "IdempotencyKey" ADD COLUMN "heldBy" TEXT;
CREATE INDEX "IdempotencyKey_unanswered_idx" ON "IdempotencyKey" ("heldBy") WHERE "answer" IS NULL AND "generationId" IS NULL;

-- What an API process has a worker do for it. The row goes with the answer.
CREATE TABLE "WorkerTask" (
  "id" TEXT NOT NULL,
  "kind" TEXT NOT NULL,
  "args" JSONB NOT NULL,
  "askedBy" TEXT NOT NULL,
  "heldBy" TEXT,
  "answer" JSONB,
  "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  CONSTRAINT "WorkerTask_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "WorkerTask_createdAt_idx" ON "WorkerTask" ("createdAt");
