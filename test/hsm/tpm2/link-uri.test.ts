import { describe, expect, it } from 'vitest';
import { parseTpmLink, tpmLinkProblem } from '../../../hsm/tpm2/links/link-uri.js';
import { ConfigurationError } from '../../../src/errors.js';

describe('names of links', () => {
  it.each([
    ['tpm2:/dev/tpmrm0', { kind: 'device', path: '/dev/tpmrm0' }],
    ['tpm2:device:/dev/tpm0', { kind: 'device', path: '/dev/tpm0' }],
    ['tpm2:device', { kind: 'device', path: '/dev/tpmrm0' }],
    ['tpm2:swtpm', { kind: 'swtpm', target: { host: '127.0.0.1', port: 2321 } }],
    ['tpm2:swtpm:', { kind: 'swtpm', target: { host: '127.0.0.1', port: 2321 } }],
    ['tpm2:swtpm:host=tpm.local,port=2400', { kind: 'swtpm', target: { host: 'tpm.local', port: 2400 } }],
    ['tpm2:swtpm:port=65535', { kind: 'swtpm', target: { host: '127.0.0.1', port: 65535 } }],
    ['tpm2:swtpm:path=/run/x=1,y.sock', { kind: 'swtpm', target: { path: '/run/x=1,y.sock' } }],
    ['tpm2:mssim:host=::1,port=2321', { kind: 'mssim', target: { host: '::1', port: 2321 } }],
    ['tpm2:mssim:host=[fe80::1%eth0]', { kind: 'mssim', target: { host: 'fe80::1%eth0', port: 2321 } }],
    ['tpm2:tcti:tabrmd:', { kind: 'tcti', name: 'tabrmd:' }],
    ['tpm2:tcti:tabrmd:bus_type=session', { kind: 'tcti', name: 'tabrmd:bus_type=session' }],
    ['tpm2:tcti:swtpm:host=::1,port=2', { kind: 'tcti', name: 'swtpm:host=::1,port=2' }],
    ['tpm2:tcti:device', { kind: 'tcti', name: 'device' }],
  ])('%s', (text, expected) => {
    expect(parseTpmLink(text)).toEqual(expected);
    expect(tpmLinkProblem(text)).toBeUndefined();
  });

  it.each([
    ['', 'must begin with tpm2:'],
    ['/dev/tpmrm0', 'must begin with tpm2:'],
    ['TPM2:/dev/tpmrm0', 'must begin with tpm2:'],
    ['tpm2:', 'names no kind of link'],
    ['tpm2:dev/tpmrm0', 'names no kind of link'],
    ['tpm2:softtpm:port=1', 'names no kind of link'],
    ['tpm2:device:tpmrm0', 'whole path'],
    ['tpm2:/dev/tpm\0', 'whole path'],
    ['tpm2:swtpm:path=run', 'whole path'],
    ['tpm2:swtpm:port=0', 'a port from 1 to 65535'],
    ['tpm2:swtpm:port=65536', 'a port from 1 to 65535'],
    ['tpm2:swtpm:port=1e3', 'a port from 1 to 65535'],
    ['tpm2:mssim:port=65535', 'a port from 1 to 65534'],
    ['tpm2:mssim:path=/run/x', 'takes host= and port='],
    ['tpm2:mssim:host=a,host=b', 'each once'],
    ['tpm2:mssim:host=', 'takes host= and port='],
    ['tpm2:mssim:2321', 'takes host= and port='],
    ['tpm2:tcti', 'must name a TCTI'],
    ['tpm2:tcti:', 'must name a TCTI'],
    ['tpm2:tcti::x', 'must name a TCTI'],
    ['tpm2:tcti:a b', 'must name a TCTI'],
    ['tpm2:tcti:device:/dev/x\0', 'must name a TCTI'],
    ['tpm2:tabrmd:bus_type=session', 'give tpm2:tcti:tabrmd:bus_type=session'],
    ['tpm2:mssim:host=a b', 'neither a name nor an address'],
  ])('refuses %j', (text, words) => {
    expect(() => parseTpmLink(text)).toThrow(ConfigurationError);
    expect(() => parseTpmLink(text)).toThrow(words);
    expect(`Option hsm.link ${tpmLinkProblem(text)}.`).toContain(words);
  });
});
