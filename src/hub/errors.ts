/** What goes wrong between here and a hub, told in one line. */
export class HubError extends Error {
  override readonly name = 'HubError'
}
