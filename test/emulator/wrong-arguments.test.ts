import { describe, expect, it, onTestFinished } from 'vitest';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { ConfigurationError } from '../../src/errors.js';

async function start(): Promise<Emulator> {
  const emulator = await startEmulator();
  onTestFinished(() => emulator.close());
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: {} } });
  emulator.hub().addDevice({
    deviceId: 'dev-1',
    authentication: { type: 'sas', primaryKey: 'AAAA', secondaryKey: 'AAAA' },
  });
  return emulator;
}

/** A call as JavaScript allows it: whatever it is, with whatever it is given. */
type Call = (...args: unknown[]) => unknown;
type Methods = Readonly<Record<string, Call>>;

const asked: readonly (readonly [string, string, readonly unknown[]])[] = [
  ['scope', 'updateEnrollment', [{ registrationId: 'dev-1', provisioningStatus: 'disabled' }]],
  ['scope', 'updateEnrollment', ['dev-1', undefined]],
  ['scope', 'updateEnrollment', ['dev-1', 'disabled']],
  ['scope', 'updateEnrollmentGroup', [{ enrollmentGroupId: 'g' }]],
  ['scope', 'removeEnrollment', [{ registrationId: 'dev-1' }]],
  ['scope', 'removeEnrollmentGroup', [undefined]],
  ['scope', 'registration', [undefined]],
  ['scope', 'receivedPayload', [5]],
  ['scope', 'removeRegistration', [null]],
  ['scope', 'enroll', ['dev-1']],
  ['hub', 'addDevice', ['dev-1']],
  ['hub', 'addDevice', [{ deviceId: 'x', authentication: { type: 'sas' } }]],
  [
    'hub',
    'addDevice',
    [{ deviceId: 'x', authentication: { type: 'selfSigned', primaryThumbprint: 'a' } }, { tags: 5 }],
  ],
  ['hub', 'twin', [{ deviceId: 'dev-1' }]],
  ['hub', 'patchDesired', [{ deviceId: 'dev-1' }, {}]],
  ['hub', 'replaceDesired', [undefined, {}]],
  ['hub', 'sendC2D', ['dev-1']],
  ['hub', 'sendC2D', ['dev-1', 'hello']],
  ['hub', 'sendC2D', ['dev-1', { body: { a: 1 } }]],
  ['hub', 'sendC2D', ['dev-1', { body: 'a', properties: { b: 5 } }]],
  ['hub', 'sendC2D', ['dev-1', { body: 'a', correlationID: 'x' }]],
  ['hub', 'queuedC2D', [undefined]],
  ['hub', 'invokeMethod', [undefined, 'reboot']],
  ['hub', 'invokeMethod', ['dev-1', 5]],
  ['hub', 'invokeMethod', ['dev-1', 'reboot', 5n]],
  ['hub', 'invokeMethod', ['dev-1', 'reboot', null, 5000]],
  ['hub', 'setDeviceEnabled', ['dev-1']],
  ['hub', 'setDeviceEnabled', [{}, true]],
  ['hub', 'removeDevice', [undefined]],
  ['hub', 'disconnectDevice', [undefined]],
  ['hub', 'telemetry', [5]],
  ['trace', 'entries', ['dps']],
  ['trace', 'count', [{ devcie: 'dev-1' }]],
  ['trace', 'waitFor', []],
  ['trace', 'waitFor', [{ event: 'connect' }, 'now']],
  ['faults', 'add', [undefined]],
  ['faults', 'add', [{ at: 'dps.register' }]],
  ['emulator', 'scope', [{}]],
  ['emulator', 'hub', [5]],
];

describe('arguments of the wrong kind', () => {
  it('end in a ConfigurationError that names method or argument, and change nothing', async () => {
    const emulator = await start();
    const scope = emulator.scope();
    const hub = emulator.hub();
    const owners = { scope, hub, trace: emulator.trace, faults: emulator.faults, emulator } as unknown;
    const before = JSON.stringify([scope.enrollments(), hub.devices(), emulator.faults.pending()]);
    for (const [owner, method, args] of asked) {
      const called = (owners as Readonly<Record<string, Methods>>)[owner]?.[method];
      const call = `${owner}.${method}(${args.map((arg) => (typeof arg === 'bigint' ? '5n' : JSON.stringify(arg))).join()})`;
      const ended = await new Promise((resolve) => resolve(called?.(...args))).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(ended, call).toBeInstanceOf(ConfigurationError);
    }
    expect(JSON.stringify([scope.enrollments(), hub.devices(), emulator.faults.pending()])).toBe(before);
  });

  it('are told on the emulator itself, too, with what is wanted', async () => {
    const emulator = await start();
    expect(() => emulator.updateEnrollment({ registrationId: 'dev-1' } as never, undefined as never)).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_CONFIG_OPTION',
        message: 'updateEnrollment(registrationId, changes): registrationId must be a text, not an object.',
      }),
    );
  });
});
