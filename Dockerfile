# syntax=docker/dockerfile:1
# Two targets: `cpu`, the default, and `cuda`, which fetches ONNX Runtime's CUDA libraries when it is built.
#   docker build -t atelier .
#   docker build -t atelier-cuda --target cuda .
# The bases are pinned by arguments; a digest pins them for good: --build-arg NODE_IMAGE=node@sha256:…
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# ONNX Runtime's install step would fetch libraries for CUDA; no other package that runs needs one.
RUN ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]

# The pages need a compiler, which the image does without.
FROM ${NODE_IMAGE} AS pages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
COPY scripts ./scripts
COPY src ./src
COPY docs ./docs
COPY openapi.yaml vite.config.ts README.md ARCHITECTURE.md CHANGELOG.md ./
RUN ["node", "scripts/build-pages.mjs"]

# All that the start would otherwise write beside the code is made here: the database's client, and the empty database.
FROM dependencies AS program
COPY scripts ./scripts
COPY prisma ./prisma
COPY bin ./bin
COPY src ./src
COPY models ./models
COPY openapi.yaml LICENSE ./
COPY --from=pages /app/dist/web ./dist/web
RUN ["node", "scripts/prepare-image.mjs"]

FROM dependencies AS cuda-libraries
ENV ONNXRUNTIME_NODE_INSTALL=cuda12
RUN ["node", "node_modules/onnxruntime-node/script/install.js"]

FROM ${CUDA_IMAGE} AS cuda
COPY --from=dependencies /usr/local/bin/node /usr/local/bin/node
COPY --from=program /app /app
COPY --from=cuda-libraries /app/node_modules/onnxruntime-node/bin /app/node_modules/onnxruntime-node/bin
RUN ["install", "-d", "-o", "10001", "-g", "10001", "/data"]
WORKDIR /app
ENV NODE_ENV=production ATELIER_DATA_DIR=/data ATELIER_DEVICES=cuda NODE_COMPILE_CACHE=/tmp/compiled
USER 10001:10001
VOLUME ["/data", "/tmp"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["node", "scripts/is-ready.mjs"]
ENTRYPOINT ["node", "bin/atelier.mjs"]
CMD ["serve"]

FROM ${NODE_IMAGE} AS cpu
COPY --from=program /app /app
RUN ["install", "-d", "-o", "10001", "-g", "10001", "/data"]
WORKDIR /app
ENV NODE_ENV=production ATELIER_DATA_DIR=/data NODE_COMPILE_CACHE=/tmp/compiled
USER 10001:10001
VOLUME ["/data", "/tmp"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["node", "scripts/is-ready.mjs"]
ENTRYPOINT ["node", "bin/atelier.mjs"]
CMD ["serve"]
