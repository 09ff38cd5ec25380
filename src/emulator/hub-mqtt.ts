/** A hub's door over MQTT: who is let in. */
import type { IConnectPacket } from 'mqtt-packet';
import { hostNameProblem } from '../core/identifiers.js';
import type { EmulatorContext } from './context.js';
import type { Hub } from './hub.js';
import { verifyHubCredential } from './hub-auth.js';
import { HubMqttSession } from './hub-mqtt-session.js';
import type { MqttConnection } from './mqtt-connection.js';
import type { UserName } from './mqtt-names.js';

/** Answers a CONNECT with a hub user name, on a connection that came in at `ownHub` if at one. Every refusal is return code 5; the log has the cause. */
export function openHubSession(
  connection: MqttConnection,
  context: EmulatorContext,
  packet: IConnectPacket,
  name: Extract<UserName, { kind: 'hub' }>,
  ownHub: Hub | undefined,
): void {
  const named = context.hubs.find((candidate) => candidate.answersTo(name.host));
  const hub = named ?? (ownHub?.answersWithoutPort(name.host) === true ? ownHub : undefined);
  // Somebody may have taken a key or a connection string for the user name.
  const isHost = hub !== undefined || (/[.:]/.test(name.host) && hostNameProblem(name.host) === undefined);
  const hubName = hub?.name ?? (isHost ? name.host : '(not a host name)');
  connection.identify({ service: 'hub', hub: hubName, device: isHost ? name.deviceId : '(unknown)' });
  connection.note({ event: 'connect', detail: `api-version ${name.apiVersion} ${name.userAgent ?? ''}`.trimEnd() });
  connection.step('connack', (fault) => {
    const forced = fault?.find('connack');
    if (forced !== undefined && forced.code !== 0) {
      connection.refuse(forced.code, 'fault: connack');
      return;
    }
    if (hub === undefined) {
      connection.refuse(5, `there is no hub "${hubName}" here`);
      return;
    }
    const verdict = admit(connection, context, packet, name, hub);
    if (!verdict.isAdmitted) {
      connection.refuse(5, verdict.reason);
      return;
    }
    if (fault?.find('loseSession') !== undefined) hub.setSession(name.deviceId, undefined);
    const session = new HubMqttSession(connection, context, packet, name, hub);
    session.start();
    if (verdict.tokenExpiresAtMs !== undefined) session.watchExpiry(verdict.tokenExpiresAtMs);
  });
}

function admit(
  connection: MqttConnection,
  context: EmulatorContext,
  packet: IConnectPacket,
  name: Extract<UserName, { kind: 'hub' }>,
  hub: Hub,
): ReturnType<typeof verifyHubCredential> {
  const refused = (reason: string) => ({ isAdmitted: false as const, reason });
  const { deviceId, moduleId, host } = name;
  if (moduleId !== undefined) return refused('modules are not offered by the emulator');
  if (packet.clientId !== deviceId) return refused('the client id is not the device id');
  const device = hub.registered(deviceId);
  if (device === undefined) return refused(`hub "${hub.name}" knows no device "${deviceId}"`);
  if (!device.isEnabled) return refused('the device is disabled (403012)');
  const credential = {
    token: packet.password?.toString('utf8') || undefined,
    certificate: connection.certificateChain()[0],
  };
  return verifyHubCredential(device.authentication, credential, { host, deviceId }, context.world.wallMs());
}
