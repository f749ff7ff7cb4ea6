CREATE TYPE "FineTuningState" AS ENUM ('validating', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled');
CREATE TYPE "DeploymentState" AS ENUM ('live', 'superseded', 'rolled_back', 'withdrawn');

CREATE TABLE "FineTuningJob" (
    "id" TEXT NOT NULL,
    "number" SERIAL NOT NULL,
    "state" "FineTuningState" NOT NULL DEFAULT 'validating',
    "pauseAsked" BOOLEAN NOT NULL DEFAULT false,
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "crashes" INTEGER NOT NULL DEFAULT 0,
    "requestId" TEXT NOT NULL,
    "model" TEXT NOT NULL,
    "modelVersion" TEXT NOT NULL,
    "base" TEXT NOT NULL,
    "datasetId" TEXT NOT NULL,
    "suffix" TEXT,
    "onBadData" TEXT NOT NULL,
    "parameters" JSONB NOT NULL,
    "plan" JSONB NOT NULL,
    "pictures" INTEGER,
    "leftOut" INTEGER,
    "step" INTEGER NOT NULL DEFAULT 0,
    "steps" INTEGER NOT NULL,
    "expectedEnd" TIMESTAMPTZ(3),
    "deviceMs" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "joules" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "energySource" TEXT,
    "reports" JSONB NOT NULL DEFAULT '[]',
    "eventCount" INTEGER NOT NULL DEFAULT 0,
    "errorCode" TEXT,
    "errorMessage" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "startedAt" TIMESTAMPTZ(3),
    "finishedAt" TIMESTAMPTZ(3),
    CONSTRAINT "FineTuningJob_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "FineTuningJob_finished_check" CHECK (("state" IN ('succeeded', 'failed', 'cancelled')) = ("finishedAt" IS NOT NULL)),
    CONSTRAINT "FineTuningJob_running_check" CHECK ("state" <> 'running' OR ("startedAt" IS NOT NULL AND "attempt" > 0)),
    CONSTRAINT "FineTuningJob_pause_check" CHECK (NOT "pauseAsked" OR "state" IN ('validating', 'running')),
    CONSTRAINT "FineTuningJob_error_check" CHECK (("state" = 'failed') = ("errorCode" IS NOT NULL) AND ("errorCode" IS NULL) = ("errorMessage" IS NULL)),
    CONSTRAINT "FineTuningJob_step_check" CHECK ("step" BETWEEN 0 AND "steps"),
    CONSTRAINT "FineTuningJob_bad_data_check" CHECK ("onBadData" IN ('fail', 'skip'))
);

CREATE TABLE "FineTuningEvent" (
    "jobId" TEXT NOT NULL,
    "sequence" INTEGER NOT NULL,
    "level" TEXT NOT NULL,
    "type" TEXT NOT NULL,
    "message" TEXT NOT NULL,
    "data" JSONB NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "FineTuningEvent_pkey" PRIMARY KEY ("jobId", "sequence"),
    CONSTRAINT "FineTuningEvent_sequence_check" CHECK ("sequence" > 0),
    CONSTRAINT "FineTuningEvent_level_check" CHECK ("level" IN ('info', 'warn', 'error'))
);

-- Single precision, and the job by its number: a long job has hundreds of thousands of these.
CREATE TABLE "FineTuningMetric" (
    "jobNumber" INTEGER NOT NULL,
    "step" INTEGER NOT NULL,
    "loss" REAL NOT NULL,
    "gradientNorm" REAL NOT NULL,
    "learningRate" REAL NOT NULL,
    "imagesPerSecond" REAL NOT NULL,
    "deviceMs" REAL NOT NULL,
    CONSTRAINT "FineTuningMetric_pkey" PRIMARY KEY ("jobNumber", "step")
);

CREATE TABLE "FineTuningSample" (
    "id" TEXT NOT NULL,
    "jobId" TEXT NOT NULL,
    "stage" INTEGER NOT NULL,
    "step" INTEGER NOT NULL,
    "index" INTEGER NOT NULL,
    "prompt" TEXT NOT NULL,
    "seed" BIGINT NOT NULL,
    "file" TEXT NOT NULL,
    "width" INTEGER NOT NULL,
    "height" INTEGER NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "FineTuningSample_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "FineTuningCheckpoint" (
    "id" TEXT NOT NULL,
    "jobId" TEXT NOT NULL,
    "stage" INTEGER NOT NULL,
    "step" INTEGER NOT NULL,
    "folder" TEXT NOT NULL,
    "sizeBytes" BIGINT NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "FineTuningCheckpoint_pkey" PRIMARY KEY ("id")
);

-- Where a deployment comes from is text: it outlives the job.
CREATE TABLE "Deployment" (
    "id" TEXT NOT NULL,
    "number" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "state" "DeploymentState" NOT NULL DEFAULT 'live',
    "folder" TEXT NOT NULL,
    "modelVersion" TEXT NOT NULL,
    "baseModel" TEXT NOT NULL,
    "jobId" TEXT NOT NULL,
    "checkpointId" TEXT NOT NULL,
    "step" INTEGER NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "endedAt" TIMESTAMPTZ(3),
    CONSTRAINT "Deployment_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Deployment_ended_check" CHECK (("state" = 'live') = ("endedAt" IS NULL))
);

ALTER TABLE "FineTuningEvent" ADD CONSTRAINT "FineTuningEvent_jobId_fkey"
    FOREIGN KEY ("jobId") REFERENCES "FineTuningJob" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
CREATE UNIQUE INDEX "FineTuningJob_number_key" ON "FineTuningJob" ("number");
ALTER TABLE "FineTuningMetric" ADD CONSTRAINT "FineTuningMetric_jobNumber_fkey"
    FOREIGN KEY ("jobNumber") REFERENCES "FineTuningJob" ("number") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "FineTuningSample" ADD CONSTRAINT "FineTuningSample_jobId_fkey"
    FOREIGN KEY ("jobId") REFERENCES "FineTuningJob" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "FineTuningCheckpoint" ADD CONSTRAINT "FineTuningCheckpoint_jobId_fkey"
    FOREIGN KEY ("jobId") REFERENCES "FineTuningJob" ("id") ON DELETE CASCADE ON UPDATE CASCADE;

CREATE INDEX "FineTuningJob_state_number_idx" ON "FineTuningJob" ("state", "number");
CREATE UNIQUE INDEX "FineTuningSample_jobId_step_index_key" ON "FineTuningSample" ("jobId", "step", "index");
CREATE UNIQUE INDEX "FineTuningCheckpoint_jobId_step_key" ON "FineTuningCheckpoint" ("jobId", "step");
CREATE UNIQUE INDEX "Deployment_number_key" ON "Deployment" ("number");
CREATE INDEX "Deployment_name_number_idx" ON "Deployment" ("name", "number");
CREATE UNIQUE INDEX "Deployment_live_name_key" ON "Deployment" ("name") WHERE "state" = 'live';
