/* Included by a codec whose library is loaded at its first use, once FUNCTIONS(F) lists what it calls, LIBRARY is the
 * name of the function that tells of the library, and LIBRARY_FILE its file: makes `lib`, with a member of the type of
 * each of those functions, and LIBRARY(). It has no guard: every codec has its own. */
static struct {
#define F(name) __typeof__(&name) name; /* NOLINT(bugprone-macro-parentheses): it declares the name */
    FUNCTIONS(F)
#undef F
} lib;

static const char *const names[] = {
#define F(name) #name,
    FUNCTIONS(F)
#undef F
};

image_library *LIBRARY(void)
{
    static image_library library = {
        .file = LIBRARY_FILE, .names = names, .count = sizeof names / sizeof names[0], .functions = &lib};

    return &library;
}
