import { decodeUtf8 } from '../src/core/bytes.js';
import {
  DER_BMP_STRING,
  DER_CONTEXT_0,
  DER_OBJECT_IDENTIFIER,
  DER_SEQUENCE,
  DER_SET,
  DER_UNIVERSAL_STRING,
  DER_UTF8_STRING,
  type DerElement,
  readDerElement,
  readDerElements,
} from './der.js';

/** 2.5.4.3, id-at-commonName. */
const COMMON_NAME_OID: readonly number[] = [0x55, 0x04, 0x03];

/**
 * The common names in a certificate's subject, in order, wherever in a relative distinguished name they stand. Read from
 * the DER: the text forms of a subject differ between runtimes, and leave open which `CN=` is a name and which is part of one.
 * A name that is not valid in its encoding has U+FFFD in it. `undefined` when `certificateDer` is no certificate.
 *
 * @see RFC 5280 section 4.1
 */
export function readCommonNames(certificateDer: Uint8Array): string[] | undefined {
  const certificate = readDerElement(certificateDer, 0);
  const toBeSigned = certificate && readDerElement(certificate.content, 0);
  const fields = toBeSigned && readDerElements(toBeSigned.content);
  if (fields === undefined) return undefined;
  // version (absent in v1), serialNumber, signature, issuer, validity, subject
  const subject = fields[fields[0]?.tag === DER_CONTEXT_0 ? 5 : 4];
  return subject?.tag === DER_SEQUENCE ? readNames(subject.content) : undefined;
}

function readNames(subject: Uint8Array): string[] | undefined {
  const names: string[] = [];
  for (const set of readDerElements(subject) ?? []) {
    const attributes = set.tag === DER_SET ? readDerElements(set.content) : undefined;
    if (attributes === undefined) return undefined;
    for (const attribute of attributes) {
      const [type, value] = readDerElements(attribute.content) ?? [];
      if (type?.tag !== DER_OBJECT_IDENTIFIER || value === undefined) return undefined;
      if (isCommonName(type.content)) names.push(decodeString(value));
    }
  }
  return names;
}

function isCommonName(oid: Uint8Array): boolean {
  return oid.length === COMMON_NAME_OID.length && COMMON_NAME_OID.every((byte, index) => oid[index] === byte);
}

/** What is neither UTF-8, BMPString nor UniversalString is a subset of Latin-1, or treated as one (T61String). */
function decodeString(value: DerElement): string {
  switch (value.tag) {
    case DER_UTF8_STRING:
      return decodeUtf8(value.content) ?? '\uFFFD';
    case DER_BMP_STRING:
      return decodeWide(value.content, 2);
    case DER_UNIVERSAL_STRING:
      return decodeWide(value.content, 4);
    default:
      return decodeWide(value.content, 1);
  }
}

/** Big-endian code points of a fixed width. */
function decodeWide(bytes: Uint8Array, width: 1 | 2 | 4): string {
  if (bytes.length % width !== 0) return '\uFFFD';
  let text = '';
  for (let start = 0; start < bytes.length; start += width) {
    const codePoint = bytes.subarray(start, start + width).reduce((value, byte) => value * 256 + byte, 0);
    text += codePoint > 0x10ffff ? '\uFFFD' : String.fromCodePoint(codePoint);
  }
  return text;
}
