/*
 * A variable is likely a secret if its name says so and its value could be one, or if its value looks like one. Measured in
 * the unit test against the variables of many kinds of stacks (homelab.txt).
 */

/** Words of a name that say that the value is a secret. */
const SECRET_WORDS = listOf(
  `pass passwd password passwords passphrase pwd pw psk pin secret secrets token tokens credential credentials creds apikey apikeys
  authkey accesskey secretkey privatekey salt salts pepper webhook webhooks dsn htpasswd rcon mnemonic`,
);
/** Words that say so at the end of a name. */
const SECRET_ENDS = listOf('auth authentication basicauth cookie key keys jwt hmac bearer seed otp totp');
/** Words that end like one that says so, as in `DBPASS`. */
const ENDS_SECRET = /(?:pass|passwd|password|passphrase|pwd|secret|token|credential|apikey)s?$/;
const ENDS_KEY = /(?:key|salt)s?$/;
/** Neighboring words that say so. */
const SECRET_PAIRS = /\b(?:api|private|access|auth|secret|encryption|signing|account|master) keys?\b/;
const OTHER_WORDS = listOf('bypass compass trespass monkey donkey turkey turnkey hotkey jockey hockey basalt');
/** Last words of a name that say what the value is: a description of a secret, not a secret. */
const PUBLIC_ENDS = listOf(
  `file files path paths dir folder root length len size count ttl expiry expires expiration lifetime age timeout duration days hours
  minutes seconds interval enabled enable disabled disable required allowed algorithm algorithms alg algo method methods mode type
  provider providers driver backend strategy format policy scheme host hostname port name names header headers issuer audience scope
  scopes domain domains realm user users username email mail id ids url uri urls endpoint server servers level rounds cost iterations
  strength complexity rotation region locale prefix suffix field fields claim version image tag group groups role roles samesite
  secure whitelist allowlist attempts`,
);
/** Words that say that the value is a number or public. */
const PUBLIC_WORDS = listOf('public pub pubkey sitekey fingerprint max min limit');

function listOf(words: string): ReadonlySet<string> {
  return new Set(words.split(/\s+/));
}

/** Splits a name into its words: `dbPassword`, `DB_PASSWORD` and `db.password` are the same. */
function wordsOf(name: string): string[] {
  return name
    .replace(/([a-z\d])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter(word => word !== '');
}

/** Tells if the name of a variable says that its value is a secret. */
export function looksSecret(name: string): boolean {
  const words = wordsOf(name);
  const last = words.at(-1) ?? '';
  if (isPublicName(words)) return false;
  if (PUBLIC_ENDS.has(last)) return words.includes('webhook') && ['url', 'uri', 'urls'].includes(last);
  if (SECRET_ENDS.has(last) || (ENDS_KEY.test(last) && !OTHER_WORDS.has(last))) return true;
  return (
    words.some(word => SECRET_WORDS.has(word) || (ENDS_SECRET.test(word) && !OTHER_WORDS.has(word))) ||
    SECRET_PAIRS.test(words.join(' '))
  );
}

function isPublicName(words: readonly string[]): boolean {
  return words.some(word => PUBLIC_WORDS.has(word)) || words.join(' ').includes('site key');
}

/** Values that say nothing, even if a secret's name has them: switches, numbers and times, algorithms, references. */
const SAYS_NOTHING = [
  /^(?:true|false|yes|no|on|off|none|null|nil|auto|enabled?|disabled?|default|required|optional|basic|digest|bearer|plain|login|ldap|oidc|oauth2?|saml|proxy|internal|external|local)$/i,
  /^\d{1,3}$/,
  /^\d+(?:\.\d+)?\s?(?:ms|s|m|h|d|w|y|sec|min|hours?|days?|weeks?|[kmg]i?b?)$/i,
  /^(?:HS|RS|ES|PS)(?:256|384|512)$|^EdDSA$|^(?:sha-?(?:1|224|256|384|512)|md5|bcrypt|scrypt|argon2(?:id?|d)?|pbkdf2|scram-sha-256|aes-?(?:128|192|256)(?:-\w+)*)$/i,
  /^\$\{?[A-Za-z_]\w*\}?$/,
];
/** A path whose parts are words: `/run/secrets/db_password`. */
const WORDY_PATH = /^(?:~|\.{1,2})?(?:\/[a-z0-9]*[a-z][a-z_.-]*\d{0,3}(?:[_.-][a-z]+\d{0,3})*)+\/?$/;
const URL_SHAPE = /^[a-z][a-z\d+.-]*:\/\/\S+$/i;

/** Tells if a secret's name may have this value although it is none. */
function saysNothing(value: string): boolean {
  return SAYS_NOTHING.some(pattern => pattern.test(value)) || WORDY_PATH.test(value) || isPublicUrl(value);
}

/** A URL without a password, a query, or an opaque part. */
function isPublicUrl(value: string): boolean {
  if (!URL_SHAPE.test(value)) return false;
  const { authority, rest } = splitUrl(value);
  return !authority.includes('@') && !rest.split(/[/?#&=]/).some(part => isOpaque(part));
}

function splitUrl(value: string): { authority: string; rest: string } {
  const [, authority = '', rest = ''] = /^[^:]+:\/\/([^/?#]*)(.*)$/s.exec(value) ?? [];
  return { authority, rest };
}

/** Shapes of secrets that services hand out, and of hashes of passwords. */
const TOKEN_SHAPES = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/g,
  /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g,
  /\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|rt|dt|ft)-[\w-]{16,})/g,
  /\bxox[abeprs]-[\w-]{10,}|\bxapp-[\w-]{10,}/g,
  /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g,
  /\b(?:sk|rk|pk)_(?:live|test)_\w{10,}|\bwhsec_\w{10,}|\bsk-[\w-]{20,}/g,
  /\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}/g,
  /\bSG\.[\w-]{10,}\.[\w-]{10,}|\bkey-[0-9a-f]{32}\b/g,
  /\b(?:hf|npm|dop_v1|hvs|hvb|dckr_pat|shpat|shpss|lin_api|glsa|re|tskey-\w+|nvapi|pypi|rpa|fio-u|atlasv1)[_.-][\w-]{16,}/g,
  /\bclaim-[\w-]{16,}/g,
  /\bAGE-SECRET-KEY-1[0-9A-Z]{40,}/g,
  /\b\d{8,10}:[\w-]{35}\b/g,
  /\bbase64:[A-Za-z0-9+/]{20,}={0,2}/g,
  /\$(?:2[abxy]?|apr1|1|5|6|y|argon2(?:id?|d)?|pbkdf2-sha\d+|scrypt)\$[^\s:,]{8,}/g,
  /\{(?:SHA|SSHA|PLAIN|CRYPT)\d*\}\S{8,}/g,
];

/** Names that have an identifier, which is printed in logs and is not a secret. */
const IDENTIFIER_NAME =
  /(^|_)(ids?|uid|gid|guid|client|app|zone|account|tenant|project|subscription|organi[sz]ation|org|digest|sha|sha256|hash|checksum|commit|revision|image|tag|version|fingerprint|mac|address|etag|serial)$/i;
const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/** Tells if a part of a text looks random: long, and with letters and digits in no order that a person would write. */
function isOpaque(text: string): boolean {
  if (text.length < 16 || UUID.test(text)) return false;
  const padded = text.replace(/={1,2}$/, '');
  if (!/^[A-Za-z0-9+/_.-]+$/.test(padded)) return false;
  if (/^[0-9a-f]{16,}$/i.test(padded)) return /[a-f]/i.test(padded) && /\d/.test(padded);
  const runs = padded.split(/[_.+/-]/).filter(run => run.length >= 12);
  return runs.some(run => countTurns(run) >= run.length / 4);
}

/** Counts the borders between lower case, upper case and digits. The capital that begins a word is not one. */
function countTurns(text: string): number {
  const kinds = text
    .replace(/[a-z]/g, 'a')
    .replace(/[A-Z]/g, 'A')
    .replace(/[0-9]/g, '0')
    .replace(/A(?=aa)/g, 'a');
  let turns = 0;
  for (let index = 1; index < kinds.length; index++) if (kinds[index] !== kinds[index - 1]) turns++;
  return turns;
}

/** Tells if a value looks like a password that a person or a generator made, not like a word of a configuration. */
function isPasswordLike(value: string): boolean {
  if (value.length < 8 || value.length > 128 || /\s/.test(value)) return false;
  if (/[/:|,;()[\]{}<>`=]/.test(value)) return false;
  return (
    /[a-z]/.test(value) && /[A-Z]/.test(value) && /\d/.test(value) && /[!$%^&*#?~@]/.test(value) && !isEmail(value)
  );
}

function isEmail(value: string): boolean {
  return /^[\w.+-]+@[\w-]+(?:\.[\w-]+)+$/.test(value);
}

/** Characters of a line that are searched: a longer one has no pairs that a person wrote. */
const LONGEST_LINE = 4096;
const USER_INFO = /\b[a-z][a-z\d+.-]{0,20}:\/\/([^/?#\s'"]{1,1024})@/gi;
const PAIR =
  /(?:^|[\s?&;,'"([{])-{0,2}([A-Za-z][\w.-]{0,63})(?:\s?=\s?|:\s|"\s?:\s?)(?:"([^"]{0,1024})"|'([^']{0,1024})'|([^\s&;,'"`)\]}]{1,1024}))/g;
const OPTION = /(?:^|\s)--?([A-Za-z][\w-]{0,63})\s([^\s-]\S*)/g;
/** Addresses of Discord, Slack, Teams and the like: they are the secret. */
const WEBHOOK = /\bhttps?:\/\/[^\s'"]{1,256}(?:webhook|hooks)[^\s'"]*/gi;

/** Returns the parts of a text that are secrets wherever they are: passwords in URLs, options and pairs, tokens, hashes. */
export function listSecretParts(text: string): string[] {
  const parts = new Set<string>();
  if (text.includes('PRIVATE KEY-----')) parts.add(text.trim());
  const add = (part: string) => {
    // A variable, which is found where it is set.
    if (/^\$(?:\{|\w+$)/.test(part)) return;
    parts.add(part);
    parts.add(decodePercent(part));
  };
  for (const line of text.split(/[\r\n]+/).map(one => one.slice(0, LONGEST_LINE))) {
    for (const shape of TOKEN_SHAPES) for (const [found] of line.matchAll(shape)) add(found);
    for (const [, userInfo = ''] of line.matchAll(USER_INFO)) {
      const [, password] = /^[^:]*:(.+)$/.exec(userInfo) ?? [];
      if (password !== undefined || isOpaque(userInfo)) add(password ?? userInfo);
    }
    const pairs = [...line.matchAll(PAIR), ...line.matchAll(OPTION)];
    for (const [, name = '', ...values] of pairs) {
      const value = values.find(one => one !== undefined) ?? '';
      if (looksSecret(name) && !saysNothing(value)) add(value);
    }
    for (const [found] of line.matchAll(WEBHOOK))
      for (const part of splitUrl(found).rest.split(/[/?#&=]/)) if (isOpaque(part)) add(part);
  }
  return [...parts];
}

/** Returns the secrets in a variable; empty if its name and value are likely no secret. */
export function listVariableSecrets(name: string, value: string): string[] {
  const parts = listSecretParts(value);
  if (looksSecret(name)) return saysNothing(value) ? parts : [value, ...parts];
  const words = wordsOf(name);
  if (isPublicName(words) || isPublicValue(value)) return parts;
  const isRandom = isOpaque(value) || (UUID.test(value) && words.at(-1) === 'uuid');
  if ((isRandom && !IDENTIFIER_NAME.test(words.join('_'))) || isPasswordLike(value)) return [value, ...parts];
  return parts;
}

/** Names whose values are public although others are the same: a password may be the name of its user. */
const NAMING_NAME = /(?:user|username|usr|db|database|dbname|host|hostname|(?:^|_)name|bucket|project|client_id)$/i;

/** Tells if a variable names something that everyone may know. */
export function isNaming(name: string): boolean {
  return NAMING_NAME.test(wordsOf(name).join('_')) && !looksSecret(name);
}

/** An image, a digest, a public key, a list of names: long, but public. */
function isPublicValue(value: string): boolean {
  return (
    /@?sha256:[0-9a-f]{64}$/.test(value) ||
    /^(?:ssh-|ecdsa-|age1)/.test(value) ||
    /\s/.test(value) ||
    /^(?:[\w-]+\.)+(?:[a-z]{2,})(?::\d+)?$/i.test(value)
  );
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
