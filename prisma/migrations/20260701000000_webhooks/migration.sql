ALTER TABLE "Generation"
    ADD COLUMN "webhookUrl" TEXT,
    ADD COLUMN "webhookEvents" TEXT[] NOT NULL DEFAULT '{}';

CREATE TYPE "WebhookDeliveryState" AS ENUM ('pending', 'delivered', 'failed');

CREATE TABLE "WebhookDelivery" (
    "id" TEXT NOT NULL,
    "number" SERIAL NOT NULL,
    "generationId" TEXT NOT NULL,
    "event" TEXT NOT NULL,
    "url" TEXT NOT NULL,
    "state" "WebhookDeliveryState" NOT NULL DEFAULT 'pending',
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "dueAt" TIMESTAMPTZ(3) NOT NULL,
    "giveUpAt" TIMESTAMPTZ(3) NOT NULL,
    "lastStatus" INTEGER,
    "lastError" TEXT,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settledAt" TIMESTAMPTZ(3),
    CONSTRAINT "WebhookDelivery_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "WebhookDelivery_settled_check" CHECK (("state" = 'pending') = ("settledAt" IS NULL)),
    CONSTRAINT "WebhookDelivery_generationId_fkey" FOREIGN KEY ("generationId")
        REFERENCES "Generation" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

CREATE UNIQUE INDEX "WebhookDelivery_number_key" ON "WebhookDelivery" ("number");
CREATE INDEX "WebhookDelivery_state_dueAt_idx" ON "WebhookDelivery" ("state", "dueAt");
CREATE INDEX "WebhookDelivery_generationId_idx" ON "WebhookDelivery" ("generationId");

CREATE TABLE "WebhookSecret" (
    "number" SERIAL NOT NULL,
    "secret" BYTEA NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "retiresAt" TIMESTAMPTZ(3),
    CONSTRAINT "WebhookSecret_pkey" PRIMARY KEY ("number")
);

CREATE UNIQUE INDEX "WebhookSecret_current_key" ON "WebhookSecret" (("retiresAt" IS NULL)) WHERE "retiresAt" IS NULL;
