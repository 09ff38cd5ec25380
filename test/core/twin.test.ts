import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffPatch, type JsonObject, mergePatch, parseDesiredPatch, parseTwin } from '../../src/core/twin.js';
import { isDpsError, ProtocolError } from '../../src/errors.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const parsed = (text: string): JsonObject => JSON.parse(text);

function failureOf(work: () => unknown): ProtocolError {
  try {
    work();
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('parseTwin', () => {
  it('reads the answer of hub-protocol section 0', () => {
    const body = bytes('{"desired":{"led":{"on":true},"$version":4},"reported":{"fw":"1.1.0","$version":9}}');
    expect(parseTwin(body)).toEqual({
      desired: { version: 4, properties: { led: { on: true } } },
      reported: { version: 9, properties: { fw: '1.1.0' } },
    });
  });

  it('reads a new twin and text beyond ASCII', () => {
    const body = bytes('{"desired":{"name":"Kühlhaus 冷","$version":1},"reported":{"$version":1}}');
    expect(parseTwin(body).desired.properties).toEqual({ name: 'Kühlhaus 冷' });
  });

  it('drops $ members and treats null as absent', () => {
    const body = bytes(
      '{"desired":{"a":{"b":null,"c":1},"d":null,"$metadata":{"x":1},"$version":2},"reported":{"$version":1}}',
    );
    expect(parseTwin(body).desired).toEqual({ version: 2, properties: { a: { c: 1 } } });
  });

  it('keeps a property called __proto__ as a property', () => {
    const { desired } = parseTwin(
      bytes('{"desired":{"__proto__":{"evil":true},"$version":1},"reported":{"$version":1}}'),
    );
    expect(Object.keys(desired.properties)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(desired.properties)).toBe(Object.prototype);
    expect((desired.properties as { evil?: unknown }).evil).toBeUndefined();
  });

  it.each([
    ['nothing', ''],
    ['no JSON', '<html>proxy</html>'],
    ['a document cut short', '{"desired":{"$version":1},"rep'],
    ['an array', '[]'],
    ['null', 'null'],
    ['no desired section', '{"reported":{"$version":1}}'],
    ['no reported section', '{"desired":{"$version":1}}'],
    ['a section that is an array', '{"desired":[],"reported":{"$version":1}}'],
    ['a section without version', '{"desired":{},"reported":{"$version":1}}'],
    ['a version that is text', '{"desired":{"$version":"1"},"reported":{"$version":1}}'],
    ['a version that is a fraction', '{"desired":{"$version":1.5},"reported":{"$version":1}}'],
    ['a negative version', '{"desired":{"$version":-1},"reported":{"$version":1}}'],
    ['a section only inherited', '{"__proto__":{"desired":{"$version":1},"reported":{"$version":1}}}'],
    ['an abyss', `{"desired":{"a":${'['.repeat(5000)}${']'.repeat(5000)},"$version":1},"reported":{"$version":1}}`],
  ])('refuses %s with a typed error', (_name, text) => {
    expect(failureOf(() => parseTwin(bytes(text))).code).toBe('ERR_DPS_PROTOCOL_TWIN');
  });

  it('refuses bytes that are not UTF-8', () => {
    expect(failureOf(() => parseTwin(Uint8Array.of(0x7b, 0xff, 0x7d))).code).toBe('ERR_DPS_PROTOCOL_TWIN');
  });

  it('never shows the application’s settings in an error', () => {
    const error = failureOf(() => parseTwin(bytes('{"desired":{"wifiPassword":"hunter2"},"reported":{}}')));
    expect(`${error.message} ${error.got} ${error.expected}`).not.toContain('hunter2');
  });

  it('fails on any bytes with a typed error or not at all', () => {
    const anything = fc.oneof(fc.uint8Array(), fc.json().map(bytes), fc.string({ unit: 'binary' }).map(bytes));
    fc.assert(
      fc.property(anything, (body) => {
        try {
          parseTwin(body);
        } catch (error) {
          expect(isDpsError(error)).toBe(true);
        }
      }),
    );
  });
});

describe('parseDesiredPatch', () => {
  it('reads the push of hub-protocol section 0 and keeps its nulls', () => {
    expect(parseDesiredPatch(bytes('{"fan":null,"led":{"on":true},"$version":5}'), 5)).toEqual({
      version: 5,
      patch: { fan: null, led: { on: true } },
    });
  });

  it('takes the version from the topic when the body has none, and from the body when the topic has none', () => {
    expect(parseDesiredPatch(bytes('{"a":1}'), 7).version).toBe(7);
    expect(parseDesiredPatch(bytes('{"a":1,"$version":8}')).version).toBe(8);
  });

  it.each([
    ['topic and body that disagree', '{"$version":5}', 6],
    ['no version at all', '{"a":1}', undefined],
    ['no object', '5', 5],
    ['no JSON', '{', 5],
  ])('refuses %s', (_name, text, version) => {
    expect(failureOf(() => parseDesiredPatch(bytes(text), version)).code).toBe('ERR_DPS_PROTOCOL_TWIN');
  });
});

describe('mergePatch', () => {
  // RFC 7386, appendix A, as far as both sides are objects.
  it.each([
    ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
    ['{"a":"b"}', '{"a":null}', '{}'],
    ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
    ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
    ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
    ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
    ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
    ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
    ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
  ])('%s with %s is %s', (target, patch, result) => {
    expect(mergePatch(parsed(target), parsed(patch))).toEqual(parsed(result));
  });

  it('replaces arrays instead of merging them by index', () => {
    expect(mergePatch({ a: [1, 2, 3] }, { a: [9] })).toEqual({ a: [9] });
  });

  it('is safe with names that objects inherit', () => {
    const merged = mergePatch({}, parsed('{"__proto__":{"evil":true},"constructor":{"x":1},"toString":null}'));
    expect(Object.keys(merged).sort()).toEqual(['__proto__', 'constructor']);
    expect(merged.constructor).toEqual({ x: 1 });
    expect(({} as { evil?: unknown }).evil).toBeUndefined();
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
  });

  it('changes neither argument', () => {
    const target = parsed('{"a":{"b":1,"c":2},"d":[1]}');
    const patch = parsed('{"a":{"b":null},"d":[2],"e":{"f":null}}');
    mergePatch(target, patch);
    expect(target).toEqual(parsed('{"a":{"b":1,"c":2},"d":[1]}'));
    expect(patch).toEqual(parsed('{"a":{"b":null},"d":[2],"e":{"f":null}}'));
  });
});

describe('diffPatch', () => {
  it.each([
    ['{"a":1}', '{"a":1}', '{}'],
    ['{"a":1}', '{}', '{"a":null}'],
    ['{}', '{"a":{"b":1}}', '{"a":{"b":1}}'],
    ['{"a":{"b":1,"c":2}}', '{"a":{"b":1}}', '{"a":{"c":null}}'],
    ['{"a":{"b":1}}', '{"a":{}}', '{"a":{"b":null}}'],
    ['{"a":5}', '{"a":{}}', '{"a":{}}'],
    ['{"a":[1,{"b":null}]}', '{"a":[1,{"b":null}]}', '{}'],
    ['{"a":[1,2]}', '{"a":[1]}', '{"a":[1]}'],
    ['{}', '{"a":null}', '{}'],
    ['{"a":1}', '{"a":null}', '{"a":null}'],
  ])('from %s to %s it takes %s', (from, to, patch) => {
    expect(diffPatch(parsed(from), parsed(to))).toEqual(parsed(patch));
  });

  const scalar = fc.oneof(fc.boolean(), fc.integer(), fc.string());
  const key = fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor', 'toString', 'é');
  const { document } = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, scalar, fc.array(tie('value'), { maxLength: 3 }), tie('document')),
    document: fc
      .array(fc.tuple(key, tie('value')), { maxLength: 4 })
      .map((members) => Object.fromEntries(members) as JsonObject),
  }));

  it('makes patches that turn any document into any other', () => {
    fc.assert(
      fc.property(document as fc.Arbitrary<JsonObject>, document as fc.Arbitrary<JsonObject>, (from, to) => {
        const patched = mergePatch(from, diffPatch(from, to));
        expect(JSON.stringify(sorted(patched))).toBe(JSON.stringify(sorted(to)));
      }),
    );
  });

  it('makes an empty patch of equal documents only', () => {
    fc.assert(
      fc.property(document as fc.Arbitrary<JsonObject>, document as fc.Arbitrary<JsonObject>, (from, to) => {
        const isEmpty = Object.keys(diffPatch(from, to)).length === 0;
        expect(isEmpty).toBe(JSON.stringify(sorted(from)) === JSON.stringify(sorted(to)));
      }),
    );
  });
});

/** `toEqual` looks past own members called `__proto__`; text does not. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return ['list', ...value.map(sorted)];
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, inner]) => [name, sorted(inner)]);
}
