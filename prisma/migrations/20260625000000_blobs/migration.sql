-- Who this database is, and what its processes sign with.
CREATE TABLE "Installation" (
    "singleton" BOOLEAN NOT NULL DEFAULT true,
    "id" TEXT NOT NULL,
    "secret" BYTEA NOT NULL,
    "createdAt" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "Installation_pkey" PRIMARY KEY ("singleton"),
    CONSTRAINT "Installation_singleton_check" CHECK ("singleton"),
    CONSTRAINT "Installation_secret_check" CHECK (octet_length("secret") = 32)
);

-- Work that one process does for all of them, now and then.
CREATE TABLE "Upkeep" (
    "name" TEXT NOT NULL,
    "begunAt" TIMESTAMPTZ(3) NOT NULL,
    CONSTRAINT "Upkeep_pkey" PRIMARY KEY ("name")
);

CREATE INDEX "Generation_finishedAt_idx" ON "Generation" ("finishedAt");
