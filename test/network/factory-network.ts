import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EmulatorConfig, issueCertificate, makeAuthority } from '../../src/emulator/index.js';
import { type Finished, OwnNetwork, textOf } from './own-network.js';
import { type ProxyProgram, RealProxy, type RealProxyOptions } from './real-proxy.js';

const COMMAND = fileURLToPath(new URL('../../dist/dps-device.mjs', import.meta.url));
const RELAY = fileURLToPath(new URL('relay.mjs', import.meta.url));

/** The service's own names and ports; addresses of this network. */
export const DPS = { host: 'global.azure-devices-provisioning.net', address: '10.77.0.1' };
export const HUB = { host: 'my-hub.azure-devices.net', address: '10.77.0.2' };
export const PROXY = { host: 'proxy.factory.example', address: '10.77.0.3' };

/** Where the hub listens in truth. */
const HUB_PORT = 9443;

export interface FactoryOptions {
  /** Rules of nftables for what comes in. */
  readonly rules?: readonly string[];
  /** Beside one with a symmetric key and a group with certificates. */
  readonly enrollments?: EmulatorConfig['enrollments'];
  /** Instead of what follows from the names above. */
  readonly emulator?: EmulatorConfig;
  readonly addresses?: readonly string[];
  readonly names?: Readonly<Record<string, readonly string[]>>;
}

/**
 * A network with DPS and a hub under their real names, at their real ports, in which the built command line is run as
 * users run it.
 */
export class FactoryNetwork {
  readonly #network: OwnNetwork;
  readonly #proxies: RealProxy[] = [];
  /** What the emulator logs. */
  readonly log: () => string;

  private constructor(network: OwnNetwork, log: () => string) {
    this.#network = network;
    this.log = log;
  }

  static async start(options: FactoryOptions = {}): Promise<FactoryNetwork> {
    const network = await OwnNetwork.start({
      addresses: [DPS, HUB, PROXY].map(({ address }) => `${address}/32`).concat(options.addresses ?? []),
      names: { ...Object.fromEntries([DPS, HUB, PROXY].map((each) => [each.host, [each.address]])), ...options.names },
      rules: options.rules ?? [],
    });
    const { folder } = network;
    try {
      const config = { ...(await identitiesIn(folder, options.enrollments)), ...(options.emulator ?? plainEmulator()) };
      writeFileSync(join(folder, 'emulator.json'), JSON.stringify(config));
      const log = await startEmulator(network, folder);
      if (options.emulator === undefined) await startRelay(network);
      return new FactoryNetwork(network, log);
    } catch (error) {
      await network.stop();
      throw error;
    }
  }

  /** `dps-device provision`, by a symmetric key where nothing else is said. */
  provision(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Finished> {
    return this.command('provision', args, env);
  }

  /** The same for another command that takes the options of `provision`. */
  command(name: string, args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Finished> {
    const identity = args.some((each) => IDENTITY_FLAGS.includes(each)) ? [] : keyFlagsOf(this.#network.folder);
    const common = ['--id-scope', ID_SCOPE, '--ca-file', join(this.#network.folder, 'ca.pem')];
    return this.#network.run(process.execPath, [COMMAND, name, ...common, ...identity, ...args], env);
  }

  get certificateFlags(): readonly string[] {
    return [
      '--cert-file',
      join(this.#network.folder, 'x509.pem'),
      '--cert-key-file',
      join(this.#network.folder, 'x509.key'),
    ];
  }

  /** A file with this in it, for its owner only. */
  file(name: string, content: string): string {
    writeFileSync(join(this.#network.folder, name), content, { mode: 0o600 });
    return join(this.#network.folder, name);
  }

  /** Where there is nothing yet. */
  folder(name: string): string {
    return join(this.#network.folder, name);
  }

  /** At the address that is made for it. */
  async proxy(program: ProxyProgram, port: number, options: RealProxyOptions = {}): Promise<RealProxy> {
    const proxy = await RealProxy.start(program, {
      ...options,
      address: { host: PROXY.address, port },
      start: (command, args) => this.#network.spawn(command, args),
    });
    this.#proxies.push(proxy);
    return proxy;
  }

  async stop(): Promise<void> {
    for (const proxy of this.#proxies) await proxy.stop();
    await this.#network.stop();
  }
}

/** Where a device came to, and how, by the document that the command printed; what went wrong, else. */
export function arrivalOf({ code, stdout, stderr }: Finished): { dps: string; hub: string; fan: unknown } {
  if (code !== 0) throw new Error(`The command ended with ${code}: ${stderr}`);
  const { transport, twin } = JSON.parse(stdout);
  return { ...transport, fan: twin.desired.properties.fan };
}

const IDENTITY_FLAGS = ['--tpm', '--cert-file', '--symmetric-key-file'];

function keyFlagsOf(folder: string): readonly string[] {
  return ['--registration-id', 'key-1', '--symmetric-key-file', join(folder, 'key')];
}

const ID_SCOPE = '0ne00000000';

/** At the real ports. The hub's are led to the one that it has here. */
function plainEmulator(): EmulatorConfig {
  return {
    host: DPS.address,
    hostName: DPS.host,
    ports: { mqtt: 8883, amqp: 5671, https: 443 },
    hubs: [{ name: 'my-hub', hostName: HUB.host, port: HUB_PORT }],
  };
}

/** Writes what the devices need; gives what the service needs. */
async function identitiesIn(folder: string, others: EmulatorConfig['enrollments'] = []): Promise<EmulatorConfig> {
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
  const [primaryKey, secondaryKey] = [randomBytes(64), randomBytes(64)].map((key) => key.toString('base64'));
  const authority = await makeAuthority({ commonName: 'factory' });
  const { chainPem, privateKeyPem } = await issueCertificate(authority, { commonName: 'x509-1', usage: 'client' });
  write('key', primaryKey ?? '');
  write('x509.pem', chainPem);
  write('x509.key', privateKeyPem);
  const initialTwin = { properties: { desired: { fan: 'on' } } };
  return {
    idScope: ID_SCOPE,
    retryAfterSeconds: 0,
    enrollments: [
      {
        registrationId: 'key-1',
        attestation: { type: 'symmetricKey', symmetricKey: { primaryKey, secondaryKey } },
        initialTwin,
      },
      ...others.map((each) => ({ initialTwin, ...each })),
    ],
    enrollmentGroups: [
      {
        enrollmentGroupId: 'certified',
        attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
        initialTwin,
      },
    ],
  } as EmulatorConfig;
}

async function startEmulator(network: OwnNetwork, folder: string): Promise<() => string> {
  const args = ['emulator', '--config', join(folder, 'emulator.json'), '--ca-file', join(folder, 'ca.pem')];
  const child = network.spawn(process.execPath, [COMMAND, ...args]);
  const log = textOf(child.stderr);
  await saying(child, '"ready"', log);
  return log;
}

async function startRelay(network: OwnNetwork): Promise<void> {
  const child = network.spawn(process.execPath, [RELAY, HUB.address, '443,8883', DPS.address, String(HUB_PORT)]);
  await saying(child, 'ready', textOf(child.stderr));
}

/** Waits until a program has said this on its standard output. */
async function saying(child: ReturnType<OwnNetwork['spawn']>, word: string, problems: () => string): Promise<void> {
  const said = textOf(child.stdout);
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', () => said().includes(word) && resolve());
    child.once('close', (code) => reject(new Error(`ended with ${code}: ${problems()}`)));
  });
}
