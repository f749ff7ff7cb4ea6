/** What a device does once, at its start: prove its provider, choose the lowering, load the models. */
import { loadModel } from './loaded-model.ts'
import { Pipeline } from './pipeline.ts'
import type { DeviceOptions } from './protocol.ts'
import { checkProvider } from './provider-check.ts'

/**
 * @param onNote hears what an operator should know: a kernel that is avoided, a conversion that takes minutes
 * @throws {Error} what of the provider or a model is not as it must be
 */
export async function openPipelines(
  { models, ...options }: DeviceOptions,
  onNote: (message: string) => void,
): Promise<readonly Pipeline[]> {
  const { lowering, differences } = await checkProvider(options)
  if (lowering === 'plain') {
    const worst = differences
      .map(({ primitive, relative }) => `${primitive} ${relative.toExponential(1)}`)
      .join(', ')
    onNote(
      `the fused operators of ${options.provider} disagree with the plain ones (relative: ${worst}); the plain ones are used`,
    )
  }
  const pipelines: Pipeline[] = []
  for (const { name, folder } of models) {
    pipelines.push(new Pipeline(await loadModel(name, folder, { ...options, lowering, onNote })))
  }
  return pipelines
}
