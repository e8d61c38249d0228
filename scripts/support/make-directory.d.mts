/** mkdir with the directories above; ends also where none can be made. Throws WriteError. */
export declare function makeDirectory(path: string): Promise<void>;
