/** The emulator's controls as programs get them: what is handed in is looked at before anything is done. */
import type { CloudToDeviceRequest } from './cloud-to-device.js';
import {
  describeKind,
  openSection,
  optional,
  type Read,
  readChoice,
  readFlag,
  readInteger,
  readJsonObject,
  required,
  wrongOption,
} from './config-reader.js';
import type { HubControls } from './hub-controls.js';
import type { JsonValue } from './json.js';
import type { ScopeControls } from './scope.js';
import { readAuthentication } from './state-reader.js';
import type { TraceControls, TraceMatch } from './trace.js';

/** Only its type is judged here: which names there are is for who is asked. */
const readName: Read<string> = (value, path) => {
  if (typeof value === 'string') return value;
  throw wrongOption(path, `must be a text, not ${describeKind(value)}`);
};

const readBody: Read<Uint8Array | string> = (value, path) => {
  if (typeof value === 'string' || value instanceof Uint8Array) return value;
  throw wrongOption(path, `must be a text or a Uint8Array, not ${describeKind(value)}`);
};

const readProperties: Read<unknown> = (value, path) => {
  for (const [name, property] of Object.entries(readJsonObject(value, path))) {
    if (property !== null) readName(property, `${path}.${name}`);
  }
};

const readJson: Read<JsonValue> = (value, path) => {
  try {
    if (JSON.stringify(value) !== undefined) return value as JsonValue;
  } catch {
    // A circle, or a bigint.
  }
  throw wrongOption(path, 'must be what JSON can say');
};

const MESSAGE_TEXTS = ['messageId', 'correlationId', 'userId', 'contentType', 'contentEncoding'];
const TWIN_SECTIONS = ['tags', 'desired', 'reported'];
const MATCH_KEYS = ['service', 'protocol', 'event', 'connection', 'idScope', 'hub', 'device', 'status'];

function checkMessage(message: unknown, path: string): void {
  const section = openSection(message, path, ['body', 'ack', 'timeToLiveMs', 'properties', ...MESSAGE_TEXTS]);
  required(section, 'body', readBody);
  for (const name of MESSAGE_TEXTS) optional(section, name, readName);
  optional(section, 'ack', readChoice(['none', 'positive', 'negative', 'full']));
  optional(section, 'timeToLiveMs', readInteger(0, Number.MAX_SAFE_INTEGER));
  optional(section, 'properties', readProperties);
}

function checkIdentity(identity: unknown, path: string): void {
  const section = openSection(identity, path, ['deviceId', 'authentication']);
  required(section, 'deviceId', readName);
  required(section, 'authentication', readAuthentication);
}

function checkContent(content: unknown, path: string): void {
  const section = openSection(content, path, TWIN_SECTIONS);
  for (const name of TWIN_SECTIONS) optional(section, name, readJsonObject);
}

/** @throws {ConfigurationError} from each method whose arguments are of the wrong kind, naming the argument. */
export function checkedScope(scope: ScopeControls): ScopeControls {
  return {
    idScope: scope.idScope,
    enroll: scope.enroll.bind(scope),
    enrollGroup: scope.enrollGroup.bind(scope),
    updateEnrollment: (registrationId, changes) => {
      readName(registrationId, 'updateEnrollment(registrationId, changes): registrationId');
      readJsonObject(changes, 'updateEnrollment(registrationId, changes): changes');
      return scope.updateEnrollment(registrationId, changes);
    },
    updateEnrollmentGroup: (enrollmentGroupId, changes) => {
      readName(enrollmentGroupId, 'updateEnrollmentGroup(enrollmentGroupId, changes): enrollmentGroupId');
      readJsonObject(changes, 'updateEnrollmentGroup(enrollmentGroupId, changes): changes');
      return scope.updateEnrollmentGroup(enrollmentGroupId, changes);
    },
    removeEnrollment: (id) => scope.removeEnrollment(readName(id, 'removeEnrollment: registrationId')),
    removeEnrollmentGroup: (id) =>
      scope.removeEnrollmentGroup(readName(id, 'removeEnrollmentGroup: enrollmentGroupId')),
    enrollments: () => scope.enrollments(),
    enrollmentGroups: () => scope.enrollmentGroups(),
    registrations: () => scope.registrations(),
    registration: (id) => scope.registration(readName(id, 'registration: registrationId')),
    receivedPayload: (id) => scope.receivedPayload(readName(id, 'receivedPayload: registrationId')),
    removeRegistration: (id) => scope.removeRegistration(readName(id, 'removeRegistration: registrationId')),
  };
}

/**
 * What a twin refuses, or the name of a method, is the service's answer, as before.
 *
 * @throws {ConfigurationError} as `checkedScope` does; `invokeMethod` rejects with it.
 */
export function checkedHub(hub: HubControls): HubControls {
  return {
    name: hub.name,
    // Known only when the hub listens.
    get hostName() {
      return hub.hostName;
    },
    devices: () => hub.devices(),
    addDevice: (identity, content = {}) => {
      checkIdentity(identity, 'addDevice: identity');
      checkContent(content, 'addDevice: content');
      hub.addDevice(identity, content);
    },
    twin: (deviceId) => hub.twin(readName(deviceId, 'twin: deviceId')),
    patchDesired: (deviceId, patch) => hub.patchDesired(readName(deviceId, 'patchDesired: deviceId'), patch),
    replaceDesired: (deviceId, properties) =>
      hub.replaceDesired(readName(deviceId, 'replaceDesired: deviceId'), properties),
    sendC2D: (deviceId, message: CloudToDeviceRequest) => {
      readName(deviceId, 'sendC2D: deviceId');
      checkMessage(message, 'sendC2D: message');
      return hub.sendC2D(deviceId, message);
    },
    queuedC2D: (deviceId) => hub.queuedC2D(readName(deviceId, 'queuedC2D: deviceId')),
    invokeMethod: async (deviceId, name, payload = null, options = {}) => {
      readName(deviceId, 'invokeMethod: deviceId');
      readName(name, 'invokeMethod: name');
      readJson(payload, 'invokeMethod: payload');
      const section = openSection(options, 'invokeMethod: options', ['timeoutMs']);
      optional(section, 'timeoutMs', readInteger(0, 2 ** 31 - 1));
      return hub.invokeMethod(deviceId, name, payload, options);
    },
    setDeviceEnabled: (deviceId, isEnabled) => {
      readName(deviceId, 'setDeviceEnabled: deviceId');
      hub.setDeviceEnabled(deviceId, readFlag(isEnabled, 'setDeviceEnabled: isEnabled'));
    },
    removeDevice: (deviceId) => hub.removeDevice(readName(deviceId, 'removeDevice: deviceId')),
    disconnectDevice: (deviceId) => hub.disconnectDevice(readName(deviceId, 'disconnectDevice: deviceId')),
    telemetry: (deviceId) =>
      hub.telemetry(deviceId === undefined ? undefined : readName(deviceId, 'telemetry: deviceId')),
  };
}

/** @throws {ConfigurationError} as `checkedScope` does; `waitFor` rejects with it, and would wait for ever otherwise. */
export function checkedTrace(trace: TraceControls): TraceControls {
  const check = (match: TraceMatch | undefined, call: string): TraceMatch | undefined => {
    if (match !== undefined) openSection(match, `${call}: match`, MATCH_KEYS);
    return match;
  };
  return {
    entries: (match) => trace.entries(check(match, 'trace.entries')),
    count: (match) => trace.count(check(match, 'trace.count')),
    waitFor: async (match, afterSequence = 0) => {
      openSection(match, 'trace.waitFor: match', MATCH_KEYS);
      readInteger(0, Number.MAX_SAFE_INTEGER)(afterSequence, 'trace.waitFor: afterSequence');
      return trace.waitFor(match, afterSequence);
    },
    clear: () => trace.clear(),
  };
}
