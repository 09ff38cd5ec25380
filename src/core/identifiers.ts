/**
 * Grammars of the names a device goes by and of the hosts it goes to. The `…Problem` functions answer with a sentence
 * that says what is wrong, or `undefined` when nothing is. They refuse what cannot be right; the service has the last word.
 */

/** Global device endpoints, by cloud. */
export const DPS_ENDPOINTS: Readonly<Record<'public' | 'china' | 'usGovernment', string>> = Object.freeze({
  public: 'global.azure-devices-provisioning.net',
  china: 'global.azure-devices-provisioning.cn',
  usGovernment: 'global.azure-devices-provisioning.us',
});

export const DEFAULT_DPS_ENDPOINT: string = DPS_ENDPOINTS.public;

const MAX_REGISTRATION_ID_CHARACTERS = 128;
const MAX_ID_SCOPE_CHARACTERS = 64;
const MAX_DEVICE_ID_CHARACTERS = 128;
const MAX_HOST_NAME_CHARACTERS = 253;
const MAX_PORT = 65535;

/**
 * 1 to 128 letters, digits and `-._:`, a letter, digit or `-` at the end. Upper case is legal and means the same as
 * lower case. The service's definition also forbids `-._:` at the start; its documentation does not, so that is left to it.
 */
export function registrationIdProblem(text: string): string | undefined {
  const problem = spellingProblem(text, {
    name: 'registration id',
    maxCharacters: MAX_REGISTRATION_ID_CHARACTERS,
    forbidden: /[^A-Za-z0-9\-._:]/u,
    allowed: 'letters, digits and - . _ :',
  });
  if (problem !== undefined) return problem;
  if (/[A-Za-z0-9-]$/.test(text)) return undefined;
  return `The registration id ends in ${describeCharacter(text.slice(-1))}; the last character must be a letter, a digit or -.`;
}

/** ID scopes are the service's to make, so almost anything goes; what could not stand in a path or topic does not. */
export function idScopeProblem(text: string): string | undefined {
  const problem = spellingProblem(text, {
    name: 'ID scope',
    maxCharacters: MAX_ID_SCOPE_CHARACTERS,
    forbidden: /[^!-~]|[/"']/u,
    allowed: 'printable ASCII characters without space, slash or quotes',
  });
  return problem === undefined
    ? undefined
    : `${problem} Copy it from the overview page of the DPS instance; it looks like 0ne00111111.`;
}

/** IoT Hub's grammar: 1 to 128 letters, digits and `-.+%_#*?!(),:=@$'`, case-sensitive. */
export function deviceIdProblem(text: string): string | undefined {
  return spellingProblem(text, {
    name: 'device id',
    maxCharacters: MAX_DEVICE_ID_CHARACTERS,
    forbidden: /[^A-Za-z0-9\-.+%_#*?!(),:=@$']/u,
    allowed: "letters, digits and - . + % _ # * ? ! ( ) , : = @ $ '",
  });
}

/** Digital twin model identifier: `dtmi:com:example:Thermostat;1`, at most 128 characters (Plug and Play, DTDL v2 and v3). */
export function modelIdProblem(text: string): string | undefined {
  const problem = spellingProblem(text, {
    name: 'model id',
    maxCharacters: 128,
    forbidden: /[^A-Za-z0-9_:;.]/u,
    allowed: 'letters, digits and _ : ; .',
  });
  if (problem !== undefined) return problem;
  if (/^dtmi:[^;.]+(;[1-9]\d*(\.\d+)?)?$/.test(text)) return undefined;
  return 'The model id must look like dtmi:com:example:Thermostat;1: dtmi, colon, path, semicolon, version.';
}

/** `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. */
export function hostNameProblem(text: string): string | undefined {
  const parsed = parseHostPort(text);
  return 'problem' in parsed ? parsed.problem : undefined;
}

/**
 * Takes `host`, `host:port`, `[IPv6]` or `[IPv6]:port` apart; the brackets go. Without a port, `defaultPort` is used.
 * `undefined` when `hostNameProblem` has something to say.
 */
export function splitHostPort(
  endpoint: string,
  defaultPort: number,
): { readonly host: string; readonly port: number } | undefined {
  const parsed = parseHostPort(endpoint);
  return 'problem' in parsed ? undefined : { host: parsed.host, port: parsed.port ?? defaultPort };
}

/** The global endpoint of a cloud given by name (`public`, `china`, `usGovernment`, in any case); other text is a host and stays as it is. */
export function resolveDpsEndpoint(nameOrHost: string): string {
  const wanted = nameOrHost.toLowerCase();
  const cloud = Object.entries(DPS_ENDPOINTS).find(([name]) => name.toLowerCase() === wanted);
  return cloud?.[1] ?? nameOrHost;
}

interface Spelling {
  readonly name: string;
  readonly maxCharacters: number;
  /** Matches the first character that must not be there. */
  readonly forbidden: RegExp;
  readonly allowed: string;
}

function spellingProblem(text: string, spelling: Spelling): string | undefined {
  if (text === '') return `The ${spelling.name} is empty.`;
  if (text.length > spelling.maxCharacters) {
    return `The ${spelling.name} has ${text.length} characters; ${spelling.maxCharacters} is the most.`;
  }
  const found = spelling.forbidden.exec(text);
  if (found === null) return undefined;
  return `The ${spelling.name} has ${describeCharacter(found[0])} at position ${found.index + 1}; allowed are ${spelling.allowed}.`;
}

/** A visible character in quotes, any other by number: a blank or a look-alike must not hide in the message. */
function describeCharacter(character: string): string {
  const codePoint = character.codePointAt(0) ?? 0;
  if (codePoint > 0x20 && codePoint < 0x7f) return `'${character}'`;
  const hex = codePoint.toString(16).toUpperCase().padStart(4, '0');
  return codePoint === 0x20 ? 'a space' : `the character U+${hex}`;
}

type HostPort = { readonly host: string; readonly port: number | undefined } | { readonly problem: string };

function parseHostPort(text: string): HostPort {
  if (text === '') return { problem: 'The host name is empty.' };
  if (text.includes('/')) {
    return { problem: 'The host name has a slash in it; give the host alone, without https:// and without a path.' };
  }
  return text.startsWith('[') ? parseBracketed(text) : parseNamed(text);
}

function parseBracketed(text: string): HostPort {
  const [, address, portText] = /^\[([^\]]*)\](?::(.*))?$/s.exec(text) ?? [];
  if (address === undefined || !isIpv6(address)) {
    return { problem: 'The host name opens a bracket but is not [IPv6] or [IPv6]:port, such as [2001:db8::1]:8883.' };
  }
  return withPort(address, portText);
}

function parseNamed(text: string): HostPort {
  const [host = '', portText, ...more] = text.split(':');
  if (more.length > 0) {
    return { problem: 'The host name has more than one colon; an IPv6 address goes in brackets, such as [::1]:8883.' };
  }
  const problem = spellingProblem(host, {
    name: 'host name',
    maxCharacters: MAX_HOST_NAME_CHARACTERS,
    forbidden: /[^A-Za-z0-9\-._]/u,
    allowed: 'letters, digits and - . _ (international names in their xn-- form)',
  });
  if (problem !== undefined) return { problem };
  const labels = (host.endsWith('.') ? host.slice(0, -1) : host).split('.');
  if (labels.some((label) => label === '' || label.length > 63)) {
    return { problem: 'The host name has an empty part, or one of more than 63 characters, between its dots.' };
  }
  return withPort(host, portText);
}

function withPort(host: string, portText: string | undefined): HostPort {
  if (portText === undefined) return { host, port: undefined };
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : 0;
  return port >= 1 && port <= MAX_PORT
    ? { host, port }
    : { problem: `What follows the colon after the host is not a port; a port is a number from 1 to ${MAX_PORT}.` };
}

/** RFC 4291 section 2.2, with an optional zone as in `fe80::1%eth0`. */
function isIpv6(text: string): boolean {
  const [address = '', zone, ...moreZones] = text.split('%');
  if (moreZones.length > 0 || (zone !== undefined && !/^[A-Za-z0-9._~-]+$/.test(zone))) return false;
  const halves = address.split('::');
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')));
  const hasIpv4Tail = halves.at(-1) !== '' && isIpv4(groups.at(-1) ?? '');
  const hexGroups = hasIpv4Tail ? groups.slice(0, -1) : groups;
  if (!hexGroups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))) return false;
  const count = hexGroups.length + (hasIpv4Tail ? 2 : 0);
  return halves.length === 2 ? count <= 7 : count === 8;
}

function isIpv4(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
}
