def check_render(*a):
    pass
