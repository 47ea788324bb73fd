export function restorePlexByHand(): string {
  return `Unpack it next to Plex's databases, put the files in their places, and remove the old -wal and -shm next to them:

    tar --extract --file <archive> --directory <empty folder>

The databases belong to Plex's user. Preferences.xml identifies the server: put it back on the same server only.
`;
}
