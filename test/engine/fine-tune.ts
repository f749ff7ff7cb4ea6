import { cp, link, mkdir, open, readdir } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** The checkpoint with other weights of the transformer; all other files are the same ones. */
export async function fineTune(base: string, folder: string): Promise<void> {
  const entries = await readdir(base, { recursive: true, withFileTypes: true })
  for (const { name, parentPath } of entries.filter((entry) => entry.isFile())) {
    const [from, to] = [join(parentPath, name), join(folder, relative(base, parentPath), name)]
    await mkdir(dirname(to), { recursive: true })
    await (from.includes('transformer') ? cp(from, to) : link(from, to))
  }
  const handle = await open(join(folder, 'transformer', 'diffusion_pytorch_model.safetensors'), 'r+')
  const { size } = await handle.stat()
  await handle.write(Buffer.alloc(64), 0, 64, size - 64)
  await handle.close()
}
