ALTER TABLE "Image"
    ADD COLUMN "joules" DOUBLE PRECISION,
    ADD COLUMN "energySource" TEXT,
    ADD CONSTRAINT "Image_energy_check" CHECK (num_nonnulls("joules", "energySource") IN (0, 2));

ALTER TABLE "Generation" ADD COLUMN "traceparent" TEXT;
