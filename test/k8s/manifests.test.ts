/** The manifests of k8s/: right by their schemas, whole, and in agreement with each other and with the program. */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { readConfig, describeSettings } from '../../src/config.ts'
import { allFiles, k8s, overlays, readKustomization, type Resource } from './kustomization.ts'
import { unknownFields, validate } from './schemas.ts'

const read = Object.fromEntries(overlays.map((name) => [name, readKustomization(join(k8s, name))]))
const all = overlays.flatMap((name) => read[name]!.resources)

test('every file is part of some overlay', () => {
  const used = new Set(Object.values(read).flatMap(({ files }) => files.map((file) => relative(k8s, file))))
  expect(allFiles().filter((file) => !used.has(file))).toEqual([])
})

test('every manifest is what the schema of its kind wants', async () => {
  for (const resource of all) await expect(validate(resource)).resolves.toBeUndefined()
})

test('none has a field that its kind does not have', () => {
  expect(unknownFields(all)).toEqual([])
})

test('both checks find what is wrong', async () => {
  const service = all.find(({ kind }) => kind === 'Service')!
  const wrongType = { ...service, spec: { ...service.spec, selector: 'atelier' } }
  await expect(validate(wrongType)).rejects.toThrow('Service atelier is not what its schema wants')
  const misspelt = { ...service, spec: { ...service.spec, selectors: {} } }
  expect(unknownFields([misspelt]).join()).toMatch(/'"selectors"' does not exist/)
})

interface Container {
  readonly name: string
  readonly image: string
  readonly args?: readonly string[]
  readonly command?: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value?: string }[]
  readonly envFrom?: readonly { readonly configMapRef?: { readonly name: string } }[]
  readonly securityContext: object
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly ports?: readonly { readonly name: string }[]
}

describe.each(overlays)('%s', (overlay) => {
  const { resources, images } = read[overlay]!
  const of = (...kinds: string[]) => resources.filter(({ kind }) => kinds.includes(kind))
  const pods = of('Deployment', 'Job').map((owner) => ({
    owner,
    labels: owner.spec.template.metadata.labels as Record<string, string>,
    pod: owner.spec.template.spec,
    containers: [
      ...(owner.spec.template.spec.initContainers ?? []),
      ...owner.spec.template.spec.containers,
    ] as Container[],
  }))
  const matches = (selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>) =>
    Object.entries(selector).every(([name, value]) => labels[name] === value)
  const selected = (selector: Readonly<Record<string, string>>) =>
    pods.filter(({ labels }) => matches(selector, labels))
  const settingsOf = ({ env = [], envFrom = [] }: Container) =>
    ({
      ...Object.assign(
        {},
        ...envFrom.flatMap(({ configMapRef }) =>
          of('ConfigMap').flatMap(({ metadata, data }) =>
            metadata.name === configMapRef?.name ? [data] : [],
          ),
        ),
      ),
      ...Object.fromEntries(env.map(({ name, value }) => [name, value ?? ''])),
    }) as Record<string, string>

  test('no two resources have one name', () => {
    const names = resources.map(({ kind, metadata }) => `${kind} ${metadata.name}`)
    expect(new Set(names).size).toBe(names.length)
  })

  test('selectors find pods, and services their ports', () => {
    for (const { spec, metadata } of of('Deployment'))
      expect(selected(spec.selector.matchLabels).map(({ owner }) => owner.metadata.name)).toEqual([
        metadata.name,
      ])
    for (const { spec } of of('Service')) {
      const [found] = selected(spec.selector)
      const offered = found!.containers.flatMap(({ ports = [] }) => ports.map(({ name }) => name))
      for (const { targetPort } of spec.ports) expect(offered).toContain(targetPort)
    }
    for (const { spec } of of('PodDisruptionBudget', 'NetworkPolicy')) {
      const { matchLabels } = spec.selector ?? spec.podSelector
      expect(selected(matchLabels)).not.toEqual([])
    }
    for (const { spec } of of('ServiceMonitor')) {
      const services = of('Service').filter((service) =>
        matches(spec.selector.matchLabels, service.metadata.labels!),
      )
      expect(services).toHaveLength(1)
      for (const { port } of spec.endpoints)
        expect(services[0]!.spec.ports.map(({ name }: { name: string }) => name)).toContain(port)
    }
    for (const { pod, labels } of pods) {
      for (const { labelSelector } of pod.topologySpreadConstraints ?? [])
        expect(matches(labelSelector.matchLabels, labels)).toBe(true)
    }
  })

  test('what is referred to is there', () => {
    const has = (kind: string, name: string) =>
      expect(resources.map((each: Resource) => `${each.kind} ${each.metadata.name}`)).toContain(
        `${kind} ${name}`,
      )
    for (const { pod, containers } of pods) {
      has('ServiceAccount', pod.serviceAccountName)
      const volumes = pod.volumes as { name: string; persistentVolumeClaim?: { claimName: string } }[]
      for (const { persistentVolumeClaim: claim } of volumes)
        if (claim) has('PersistentVolumeClaim', claim.claimName)
      for (const { image, envFrom = [], volumeMounts } of containers) {
        expect(images).toContain(image)
        for (const { configMapRef } of envFrom) if (configMapRef) has('ConfigMap', configMapRef.name)
        for (const { name } of volumeMounts) expect(volumes.map((volume) => volume.name)).toContain(name)
      }
    }
    for (const { spec } of of('HorizontalPodAutoscaler', 'ScaledObject'))
      has('Deployment', spec.scaleTargetRef.name)
    for (const { spec } of of('Ingress'))
      for (const { http } of spec.rules)
        for (const { backend } of http.paths) has('Service', backend.service.name)
  })

  test('settings are known and valid, and nothing else comes under their names', () => {
    for (const { pod, containers } of pods) {
      expect(pod.enableServiceLinks).toBe(false)
      for (const container of containers) {
        const settings = settingsOf(container)
        const { HF_TOKEN: _, MODEL: __, ...ours } = settings
        expect(() => readConfig(ours)).not.toThrow()
      }
    }
  })

  test('pods keep to the restricted profile, with nothing but volumes to write to', () => {
    for (const { pod, containers } of pods) {
      expect(pod.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: 10001,
        seccompProfile: { type: 'RuntimeDefault' },
      })
      for (const { securityContext, volumeMounts } of containers) {
        const expected = {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        }
        expect(securityContext).toEqual(expected)
        expect(volumeMounts.map(({ mountPath }) => mountPath)).toContain('/tmp')
      }
    }
  })

  test('a pod is not killed before it has drained', () => {
    for (const { pod } of pods.filter(({ owner }) => owner.kind === 'Deployment')) {
      const [container] = pod.containers as [Container]
      const { drainDelaySeconds, drainTimeoutSeconds } = readConfig(settingsOf(container))
      expect(drainTimeoutSeconds).toBeGreaterThan(5)
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(
        drainDelaySeconds + drainTimeoutSeconds + 30,
      )
      if (container.args?.[0] === 'worker') continue
      const { periodSeconds, failureThreshold } = pod.containers[0].readinessProbe
      expect(drainDelaySeconds).toBeGreaterThanOrEqual(
        overlay === 'cluster' ? periodSeconds * failureThreshold : 1,
      )
    }
  })

  test('commands are there', () => {
    const cli = readFileSync(fileURLToPath(new URL('../../src/cli.ts', import.meta.url)), 'utf8')
    for (const { containers } of pods) {
      for (const { args = [], command = [] } of containers) {
        const called = [...args, ...(/atelier\.mjs (\w+)(?: (\w+))?/.exec(command.join(' '))?.slice(1) ?? [])]
        for (const name of called) expect(cli).toContain(`.command('${name}')`)
      }
    }
  })
})

test('workers are scaled by a figure that the API tells', () => {
  const { spec } = all.find(({ kind }) => kind === 'ScaledObject')!
  const [name] = /atelier_\w+/.exec(spec.triggers[0].metadata.query)!
  const metrics = readFileSync(fileURLToPath(new URL('../../src/http/metrics.ts', import.meta.url)), 'utf8')
  expect(metrics).toContain(`'${name.slice('atelier_'.length)}'`)
})

test('the settings that are named in the sources are those of the program', () => {
  const known = new Set<string>(describeSettings().map(({ variable }) => variable))
  for (const file of allFiles()) {
    for (const [name] of readFileSync(join(k8s, file), 'utf8').matchAll(/ATELIER_[A-Z][A-Z0-9_]*/g))
      expect(known).toContain(name)
  }
})
