import { decodeBase64, encodeBase64 } from '../src/core/bytes.js';
import { DER_SEQUENCE, readDerElement } from './der.js';

/** One block of a PEM file, RFC 7468 with the headers of RFC 1421 that old encrypted keys carry. */
export interface PemBlock {
  /** What stands after `BEGIN`: `CERTIFICATE`, `PRIVATE KEY`, … */
  readonly label: string;
  /** Lines such as `Proc-Type: 4,ENCRYPTED`; mostly none. */
  readonly headers: readonly string[];
  /** The content; `undefined` when it was cut or is not Base64, and `problem` says which. */
  readonly der: Uint8Array | undefined;
  readonly problem: string | undefined;
}

/** A label is a few words in capitals (RFC 7468); anything longer may be key material in the wrong place. */
const BEGIN_LINE = /-----BEGIN ([A-Z0-9 ]{1,40})-----/g;

/**
 * All blocks in `text`, in order. Text before, between and after them is skipped, line ends are of any kind, and lines
 * may be indented, as they are when a file was pasted into YAML.
 */
export function readPemBlocks(text: string): PemBlock[] {
  const begins = [...text.matchAll(BEGIN_LINE)];
  return begins.map((begin, index) => {
    const label = (begin[1] ?? '').trim();
    const rest = text.slice(begin.index + begin[0].length, begins[index + 1]?.index);
    const end = rest.indexOf(`-----END ${label}-----`);
    if (end < 0) return { label, headers: [], der: undefined, problem: `is cut: there is no line END ${label}` };
    return { label, ...readContent(rest.slice(0, end)) };
  });
}

/** Whether this is the public half of an identity, and nothing else. */
export function holdsOnlyCertificates(text: string): boolean {
  const blocks = readPemBlocks(text);
  return (
    blocks.length > 0 && blocks.every(({ label }) => label.endsWith('CERTIFICATE')) && !text.includes('PRIVATE KEY')
  );
}

function readContent(content: string): Omit<PemBlock, 'label'> {
  const lines = content.split(/\r\n|\r|\n/).map((line) => line.trim());
  const headers = lines.filter((line) => line.includes(':'));
  const der = decodeBase64(
    lines
      .filter((line) => !line.includes(':'))
      .join('')
      .replace(/\s/g, ''),
  );
  const isWhole = der !== undefined && isOneDerElement(der);
  // What an old encrypted key holds is DER only after it was decrypted.
  if (isWhole || (der !== undefined && headers.length > 0)) return { headers, der, problem: undefined };
  const problem = der === undefined ? 'is damaged: between BEGIN and END is no Base64' : 'is cut or damaged inside';
  return { headers, der: undefined, problem };
}

/** Writes a block in lines of 64, as every reader takes it. */
export function formatPem(label: string, der: Uint8Array, headers: readonly string[] = []): string {
  const lines = encodeBase64(der).match(/.{1,64}/g) ?? [];
  const head = headers.length === 0 ? [] : [...headers, ''];
  return [`-----BEGIN ${label}-----`, ...head, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/** All that PEM carries here is one DER sequence, so its own length tells whether anything is missing. */
export function isOneDerElement(der: Uint8Array): boolean {
  const element = readDerElement(der, 0);
  return element !== undefined && element.tag === DER_SEQUENCE && element.end === der.length;
}
