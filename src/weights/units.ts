/** For people: rounded up, so that what is said to be needed is enough. */
export const mebibytes = (sizeBytes: number): string => `${Math.ceil(sizeBytes / 2 ** 20)} MiB`
