/** One emulator for a test file, its hub with `dev-1` anew for each test: its hooks run in each file that imports it. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Emulator, type HubControls, startEmulator } from '../../src/emulator/index.js';
import { type IssuedCertificate, makeSelfSigned } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { MqttProbe, type ProbeOptions } from './mqtt-probe.js';
import { DEVICE_KEY, hubToken, OTHER_KEY } from './tokens.js';

/** What a device subscribes to. */
export const FILTERS = {
  twinAnswers: '$iothub/twin/res/#',
  desired: '$iothub/twin/PATCH/properties/desired/#',
  methods: '$iothub/methods/POST/#',
  messages: 'devices/dev-1/messages/devicebound/#',
} as const;

export let clock: ManualClock;
export let emulator: Emulator;
export let hub: HubControls;
export let certificate: IssuedCertificate;
export let stranger: IssuedCertificate;
const probes: MqttProbe[] = [];

beforeAll(async () => {
  clock = new ManualClock();
  emulator = await startEmulator({}, { clock });
  hub = emulator.hub();
  certificate = await makeSelfSigned({ commonName: 'x-1', usage: 'client' });
  stranger = await makeSelfSigned({ commonName: 'x-1', usage: 'client' });
});

afterAll(() => emulator.close());

beforeEach(() => {
  emulator.faults.clear();
  emulator.trace.clear();
  hub.removeDevice('dev-1');
  hub.addDevice(
    { deviceId: 'dev-1', authentication: { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY } },
    { tags: { line: 3 }, desired: { fan: 'on' } },
  );
});

afterEach(async () => {
  await Promise.all(probes.splice(0).map((probe) => probe.close()));
});

export async function open(options: Partial<ProbeOptions> = {}): Promise<MqttProbe> {
  const address = emulator.endpoints.hubs[0]?.mqtt ?? '';
  const probe = await MqttProbe.open({ address, caPem: emulator.caPem, ...options });
  probes.push(probe);
  return probe;
}

export const seconds = (offset: number): number => Math.floor(clock.wallMs() / 1000) + offset;

export const fields = (more: { key?: string; host?: string; clean?: boolean } = {}) => ({
  clientId: 'dev-1',
  username: `${more.host ?? hub.hostName}/dev-1/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4`,
  password: hubToken(more.host ?? hub.hostName, 'dev-1', more.key ?? DEVICE_KEY, seconds(3600)),
  clean: more.clean ?? false,
});

/** Connected, with these subscriptions. */
export async function ready(
  filters: Readonly<Record<string, 0 | 1>> = { [FILTERS.twinAnswers]: 0 },
  clean = true,
): Promise<MqttProbe> {
  const probe = await open();
  expect(await probe.connect(fields({ clean }))).toMatchObject({ returnCode: 0 });
  if (Object.keys(filters).length > 0) await probe.subscribe(filters);
  return probe;
}

/** Closes the connection that was opened last, and waits until the emulator has noticed. */
export async function leave(probe: MqttProbe): Promise<void> {
  const connection = emulator.trace.entries({ event: 'connect' }).at(-1)?.connection ?? 0;
  await probe.close();
  await emulator.trace.waitFor({ event: 'close', connection });
}

export async function readTwin(probe: MqttProbe, requestId = '1'): Promise<unknown> {
  probe.publish(`$iothub/twin/GET/?$rid=${requestId}`, '');
  const { topic, text } = await probe.nextPublish();
  expect(topic).toBe(`$iothub/twin/res/200/?$rid=${requestId}`);
  return JSON.parse(text);
}
