/** `GET /v1/devices`: what each device did in the last minutes. */
import type { Handler } from '../contract.ts'
import { activitySeconds } from '../../generation/device-activity.ts'
import { roundMs, type RouteDependencies } from './dependencies.ts'

export function listDevices({ generation }: RouteDependencies): Handler<'listDevices'> {
  return async ({ query: { seconds = activitySeconds } }) => {
    const { from, devices } = generation.activity(seconds)
    return {
      object: 'list',
      from,
      data: devices.map(({ name, state, requests, backlogMs, serving, training }) => ({
        object: 'device',
        name,
        state,
        requests,
        backlog_seconds: roundMs(backlogMs / 1000),
        serving: [...serving],
        training: [...training],
      })),
    }
  }
}
