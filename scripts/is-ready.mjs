// Ends with 0 when the server of this container is ready to take requests, and with 1 when it is not.
const { ATELIER_PORT: port = '8080' } = process.env
const { status } = await fetch(`http://127.0.0.1:${port}/readyz`, {
  signal: AbortSignal.timeout(4_000),
}).catch(() => ({ status: 0 }))
process.exit(status === 200 ? 0 : 1)
