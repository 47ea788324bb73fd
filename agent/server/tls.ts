import { readFileSync, statSync } from 'node:fs';
import type { Server } from 'node:https';
import { messageOf } from '../../protocol/refusal.ts';
import { ConfigError } from '../config/load.ts';

/** Files as `tailscale cert` writes them. */
export interface TlsFiles {
  cert_file: string;
  key_file: string;
}

const LOOK_EVERY_MS = 10_000;

/** Certificate and key, as they are now. Throws {@link ConfigError}. */
export function readTls({ cert_file, key_file }: TlsFiles): { cert: Buffer; key: Buffer } {
  try {
    return { cert: readFileSync(cert_file), key: readFileSync(key_file) };
  } catch (error) {
    throw new ConfigError(
      `tls: ${messageOf(error)}. Run "tailscale cert" as the agent's user, or correct tls in agent.yaml.`,
    );
  }
}

/** Takes certificates over as they are renewed. What can't be used is told, and the old one stays. Returns how to end it. */
export function watchCertificate(
  server: Server,
  files: TlsFiles,
  say: (line: string) => void,
): { look(): void; end(): void } {
  let known = fileStampOf(files);
  const look = () => {
    const now = fileStampOf(files);
    if (now === known) return;
    known = now;
    try {
      server.setSecureContext(readTls(files));
      say('tls: the certificate was renewed');
    } catch (error) {
      say(`tls: the new certificate can't be used, the old one stays: ${messageOf(error)}`);
    }
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  timer.unref();
  return { look, end: () => clearInterval(timer) };
}

function fileStampOf({ cert_file, key_file }: TlsFiles): string {
  try {
    return [cert_file, key_file].map(file => `${statSync(file).mtimeMs} ${statSync(file).ino}`).join(' ');
  } catch {
    return 'missing';
  }
}
