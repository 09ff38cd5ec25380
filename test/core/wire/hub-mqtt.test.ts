import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cloudToDeviceFilter,
  hubMqttConnect,
  METHOD_FILTER,
  methodResponseTopic,
  parseHubTopic,
  TWIN_DESIRED_FILTER,
  TWIN_RESPONSE_FILTER,
  telemetryTopic,
  twinGetTopic,
  twinReportedTopic,
} from '../../../src/core/wire/hub-mqtt.js';
import { isDpsError } from '../../../src/errors.js';

const HUB = 'myhub.azure-devices.net';

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (isDpsError(error)) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('CONNECT', () => {
  it('spells the user name as in hub-protocol section 0', () => {
    expect(hubMqttConnect({ hostName: HUB, deviceId: 'dev-1' })).toEqual({
      clientId: 'dev-1',
      username: 'myhub.azure-devices.net/dev-1/?api-version=2021-04-12',
    });
  });

  it('escapes model id and user agent', () => {
    const { username } = hubMqttConnect({
      hostName: HUB,
      deviceId: 'dev-1',
      userAgent: 'dps-device/0.1.0 (node v20; x64)',
      modelId: 'dtmi:com:example:Thermostat;1',
    });
    expect(username).toBe(
      'myhub.azure-devices.net/dev-1/?api-version=2021-04-12&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1&DeviceClientType=dps-device%2F0.1.0%20%28node%20v20%3B%20x64%29',
    );
  });

  it('leaves host, port and device id as they are', () => {
    const { clientId, username } = hubMqttConnect({ hostName: 'localhost:45915', deviceId: "a.b%_#*?!(),=@$'" });
    expect(clientId).toBe("a.b%_#*?!(),=@$'");
    expect(username).toBe("localhost:45915/a.b%_#*?!(),=@$'/?api-version=2021-04-12");
  });
});

describe('topics to the hub', () => {
  it('are those of hub-protocol sections 2 and 3', () => {
    expect(TWIN_RESPONSE_FILTER).toBe('$iothub/twin/res/#');
    expect(TWIN_DESIRED_FILTER).toBe('$iothub/twin/PATCH/properties/desired/#');
    expect(METHOD_FILTER).toBe('$iothub/methods/POST/#');
    expect(cloudToDeviceFilter('dev-1')).toBe('devices/dev-1/messages/devicebound/#');
    expect(twinGetTopic('a1')).toBe('$iothub/twin/GET/?$rid=a1');
    expect(twinReportedTopic('a2')).toBe('$iothub/twin/PATCH/properties/reported/?$rid=a2');
    expect(methodResponseTopic(200, '1')).toBe('$iothub/methods/res/200/?$rid=1');
    expect(telemetryTopic('dev-1')).toBe('devices/dev-1/messages/events/');
  });

  it('carry telemetry properties as Microsoft’s Node client does', () => {
    const topic = telemetryTopic('dev-1', {
      messageId: 'm/1 2',
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      properties: { 'p a': 'v&=' },
    });
    expect(topic).toBe(
      'devices/dev-1/messages/events/%24.mid=m%2F1%202&%24.ct=application%2Fjson&%24.ce=utf-8&p%20a=v%26%3D',
    );
  });

  it('carry the other system properties', () => {
    const topic = telemetryTopic('d', {
      correlationId: 'c',
      creationTimeUtc: '2026-11-21T00:00:00Z',
      component: 'thermostat1',
      properties: { empty: '' },
    });
    expect(topic).toBe(
      'devices/d/messages/events/%24.cid=c&%24.ctime=2026-11-21T00%3A00%3A00Z&%24.sub=thermostat1&empty=',
    );
  });

  it('refuse what would forge a property of the hub, or not fit', () => {
    expect(codeOf(() => telemetryTopic('d', { properties: { '$.mid': 'x' } }))).toBe('ERR_DPS_CONFIG_OPTION');
    expect(codeOf(() => telemetryTopic('d', { properties: { p: 'ä'.repeat(11000) } }))).toBe('ERR_DPS_CONFIG_OPTION');
  });

  it('refuse a device id with a wildcard in it', () => {
    for (const id of ['a+b', 'a#b']) {
      expect(codeOf(() => telemetryTopic(id))).toBe('ERR_DPS_CONFIG_UNSUPPORTED');
      expect(codeOf(() => cloudToDeviceFilter(id))).toBe('ERR_DPS_CONFIG_UNSUPPORTED');
    }
  });
});

describe('topics from the hub', () => {
  it.each<[string, object]>([
    ['$iothub/twin/res/200/?$rid=a1', { kind: 'twinResponse', status: 200, requestId: 'a1', version: undefined }],
    ['$iothub/twin/res/204/?$rid=a2&$version=10', { kind: 'twinResponse', status: 204, requestId: 'a2', version: 10 }],
    ['$iothub/twin/res/204/?$version=10&$rid=a2', { kind: 'twinResponse', status: 204, requestId: 'a2', version: 10 }],
    ['$iothub/twin/res/429?$rid=a%202', { kind: 'twinResponse', status: 429, requestId: 'a%202', version: undefined }],
    ['$iothub/twin/PATCH/properties/desired/?$version=5', { kind: 'desired', version: 5 }],
    ['$iothub/twin/PATCH/properties/desired/', { kind: 'desired', version: undefined }],
    ['$iothub/methods/POST/reboot/?$rid=1', { kind: 'method', name: 'reboot', requestId: '1' }],
    ['$iothub/methods/POST/set%20led/?$rid=f%2F=', { kind: 'method', name: 'set led', requestId: 'f%2F=' }],
    ['$iothub/methods/POST/50%/?$rid=1', { kind: 'method', name: '50%', requestId: '1' }],
    ['$iothub/credentials/res/200/?$rid=1', { kind: 'unknown' }],
    ['devices/other/messages/devicebound/a=b', { kind: 'unknown' }],
    ['', { kind: 'unknown' }],
  ])('%s', (topic, delivery) => {
    expect(parseHubTopic(topic, 'dev-1')).toEqual(delivery);
  });

  it.each([
    '$iothub/twin/res/',
    '$iothub/twin/res/200',
    '$iothub/twin/res/200/?$rid=',
    '$iothub/twin/res/200/?$version=3',
    '$iothub/twin/res/abc/?$rid=1',
    '$iothub/twin/res/2000/?$rid=1',
    '$iothub/twin/res/200/more/?$rid=1',
    '$iothub/twin/res/204/?$rid=1&$version=x',
    '$iothub/twin/res/204/?$rid=1&$version=',
    '$iothub/twin/PATCH/properties/desired/?$version=-1',
    '$iothub/twin/PATCH/properties/desired/?$version=99999999999999999999',
    '$iothub/methods/POST/?$rid=1',
    '$iothub/methods/POST/reboot/',
    '$iothub/methods/POST/reboot/?$rid=',
    'devices/dev-1/messages/devicebound/a=%ff',
    'devices/dev-1/messages/devicebound/%zz=1',
  ])('refuses %s', (topic) => {
    expect(codeOf(() => parseHubTopic(topic, 'dev-1'))).toBe('ERR_DPS_PROTOCOL_TOPIC');
  });

  it('reads a cloud-to-device bag, system properties apart', () => {
    const topic =
      'devices/dev-1/messages/devicebound/%24.mid=m1&%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&$.cid=c%201&%24.ct=text%2Fplain&%24.ce=utf-8&iothub-ack=full&p%20a=v%26%3D';
    expect(parseHubTopic(topic, 'dev-1')).toEqual({
      kind: 'cloudToDevice',
      bag: {
        messageId: 'm1',
        correlationId: 'c 1',
        contentType: 'text/plain',
        contentEncoding: 'utf-8',
        properties: { 'iothub-ack': 'full', 'p a': 'v&=' },
      },
    });
  });

  it('tells a property without a value from an empty one', () => {
    const delivery = parseHubTopic('devices/dev-1/messages/devicebound/null&empty=&eq=a=b&plus=a+b&%24.mid', 'dev-1');
    expect(delivery).toMatchObject({
      bag: { messageId: undefined, properties: { null: null, empty: '', eq: 'a=b', plus: 'a+b' } },
    });
  });

  it('reads an empty bag, and a property called __proto__', () => {
    expect(parseHubTopic('devices/dev-1/messages/devicebound/', 'dev-1')).toMatchObject({ bag: { properties: {} } });
    const delivery = parseHubTopic('devices/dev-1/messages/devicebound/__proto__=x', 'dev-1');
    expect(delivery.kind === 'cloudToDevice' && Object.entries(delivery.bag.properties)).toEqual([['__proto__', 'x']]);
  });

  it('never fails with an untyped error', () => {
    const prefix = fc.constantFrom(
      '$iothub/twin/res/',
      '$iothub/twin/PATCH/properties/desired/',
      '$iothub/methods/POST/',
      'devices/dev-1/messages/devicebound/',
      '',
    );
    const tail = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[%$?&=/a-f0-9.]{0,30}$/));
    fc.assert(
      fc.property(prefix, tail, (start, end) => {
        expect(['accepted', 'ERR_DPS_PROTOCOL_TOPIC']).toContain(codeOf(() => parseHubTopic(start + end, 'dev-1')));
      }),
    );
  });

  it('brings back every property that telemetry’s spelling sends', () => {
    const text = fc.string({ unit: 'grapheme' });
    const properties = fc.dictionary(
      text.filter((key) => !key.startsWith('$.')),
      text,
      { maxKeys: 5 },
    );
    fc.assert(
      fc.property(properties, (sent) => {
        const bag = telemetryTopic('d', { properties: sent }).slice('devices/d/messages/events/'.length);
        const delivery = parseHubTopic(`devices/d/messages/devicebound/${bag}`, 'd');
        expect(delivery.kind === 'cloudToDevice' && Object.entries(delivery.bag.properties)).toEqual(
          Object.entries(sent),
        );
      }),
    );
  });
});
