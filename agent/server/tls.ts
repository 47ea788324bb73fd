import { readFileSync, statSync } from 'node:fs';
import type { Server } from 'node:https';
import { messageOf } from '../../protocol/refusal.ts';
import { ConfigError } from '../config/load.ts';

/** The files that `tailscale cert` writes. */
export interface TlsFiles {
  cert_file: string;
  key_file: string;
}

const CHECK_EVERY_MS = 10_000;

/** Reads certificate and key. Throws {@link ConfigError}. */
export function readTls({ cert_file, key_file }: TlsFiles): { cert: Buffer; key: Buffer } {
  try {
    return { cert: readFileSync(cert_file), key: readFileSync(key_file) };
  } catch (error) {
    throw new ConfigError(
      `tls: ${messageOf(error)}. Run "tailscale cert" as the agent's user, or correct tls in agent.yaml.`,
    );
  }
}

/** Loads a renewed certificate. An unusable one is reported, and the old one stays. */
export function watchCertificate(
  server: Server,
  files: TlsFiles,
  log: (line: string) => void,
): { check(): void; stop(): void } {
  let loaded = fileStampOf(files);
  const check = () => {
    const current = fileStampOf(files);
    if (current === loaded) return;
    loaded = current;
    try {
      server.setSecureContext(readTls(files));
      log('tls: the certificate was renewed');
    } catch (error) {
      log(`tls: the new certificate is unusable, the old one stays: ${messageOf(error)}`);
    }
  };
  const timer = setInterval(check, CHECK_EVERY_MS);
  timer.unref();
  return { check, stop: () => clearInterval(timer) };
}

function fileStampOf({ cert_file, key_file }: TlsFiles): string {
  try {
    return [cert_file, key_file].map(file => `${statSync(file).mtimeMs} ${statSync(file).ino}`).join(' ');
  } catch {
    return 'missing';
  }
}
